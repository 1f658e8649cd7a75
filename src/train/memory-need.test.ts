import { describe, expect, it } from "vitest";
import { nullCommunicator } from "../../test/null-communicator.js";
import { createReferenceEngine } from "../../test/reference/engine.js";
import { modelOf, readRunConfig } from "./config.js";
import { evaluationNeed, trainingNeed } from "./memory-need.js";
import { createTrainee } from "./trainee.js";

const need = (sets: readonly string[], ranks = 1, more: { proveOverlap?: boolean } = {}) =>
  trainingNeed(readRunConfig(undefined, sets), { ranks, inProcess: ranks, ...more });

describe("what training needs", () => {
  it.each([
    { ranks: 1, zero: false, ep: 1 },
    { ranks: 4, zero: false, ep: 4 },
    { ranks: 4, zero: true, ep: 2 },
  ])(
    "is the state of a rank: $ranks ranks, ZeRO $zero, $ep to a copy of the experts",
    ({ ranks, zero, ep }) => {
      const sets = [`parallel.zero=${zero}`, `parallel.expert_parallel=${ep}`];
      const { weights, gradients, moments } = need(sets, ranks);
      const { stateBytes } = createTrainee({
        config: modelOf(readRunConfig(undefined, sets)),
        engine: createReferenceEngine(),
        world: nullCommunicator({ rank: 0, size: ranks }),
        epSize: ep,
        zero,
      });
      expect(weights + gradients + moments).toBe(stateBytes);
    },
  );

  it("is twice as much with a twin, less with recomputation and smaller micro-batches", () => {
    const [plain, twin] = [need([]), need([], 1, { proveOverlap: true })];
    for (const part of ["weights", "gradients", "moments", "activations"] as const)
      expect(twin[part]).toBe(2 * plain[part]);
    expect(need(["train.recompute=true"]).activations).toBeLessThan(0.7 * plain.activations);
    const { activations, buffers } = need(["train.micro_batch_size=2", "train.micro_batches_at_once=1"]);
    expect(activations / plain.activations).toBeCloseTo(0.25, 2);
    expect(buffers / plain.buffers).toBeCloseTo(0.25, 2);
  });

  it("says how much more rows routed unevenly may take: on several ranks", () => {
    expect(need([]).worstActivations).toBeLessThan(1.05 * need([]).activations);
    const { activations, worstActivations } = need(["model.arch=top2", "train.recompute=true"], 4);
    expect(worstActivations).toBeGreaterThan(1.5 * activations);
  });

  it("refuses ranks that do not fit the run, as the run does", () => {
    expect(() => need([], 3)).toThrow(/batch_size 8 is not a multiple of 3/);
    expect(() => need([], 8)).toThrow(/num_experts 4 is not a multiple of the expert-parallel size 8/);
  });
});

it("evaluation needs weights and what one pass forward holds at a time", () => {
  const config = readRunConfig(undefined, []);
  const shape = { corpus: "sotu", batch: 8, sequence: 128 };
  const forward = evaluationNeed(modelOf(config), { ranks: 1, inProcess: 1, ...shape });
  const training = need([]);
  expect([forward.weights, forward.gradients, forward.moments]).toEqual([training.weights, 0, 0]);
  expect(forward.activations).toBeLessThan(training.activations / 5);
});
