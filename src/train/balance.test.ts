/** However a step is cut into micro-batches, it is the same step: losses, statistics, gradients, gate noise. */
import { describe, expect, it } from "vitest";
import { singleCommunicator } from "../comm/single.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { type ModelInput, resolveModel } from "../model/config.js";
import { sequential } from "../schedule/sequential.js";
import { updateSelectionBias } from "./balance.js";
import type { MicroBatch } from "./micro-batch.js";
import { forwardBackward } from "./step.js";
import { openStep } from "./step-sessions.js";
import { createTrainee } from "./trainee.js";

const [SEQUENCE, SEQUENCES, VOCABULARY] = [8, 4, 40];

interface Found {
  readonly balance: number;
  readonly loss: number;
  readonly gradients: Float32Array;
  readonly bias: readonly number[];
}

/** A model, and four sequences in so many micro-batches. */
function prepared(keys: Partial<ModelInput>, microBatches: number) {
  const engine = createOrtEngine();
  const config = resolveModel({
    arch: "scmoe-pos2",
    vocab_size: VOCABULARY,
    hidden_size: 16,
    intermediate_size: 24,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: SEQUENCE,
    router_aux_loss_coef: 1,
    ...keys,
  });
  const rank = createTrainee({ config, engine, world: singleCommunicator() });
  rank.weights.initialize(3, 0.2);
  const batch = SEQUENCES / microBatches;
  const sessions = openStep(rank, { batch, sequence: SEQUENCE, epSize: 1, microBatches }, sequential);
  const T = batch * SEQUENCE;
  const batches = Array.from({ length: microBatches }, (_, micro): MicroBatch => {
    // The first half of the step has few words: its experts are chosen otherwise than those of the second.
    const id = (t: number, factor: number): number => (t * factor) % (t < 16 ? 3 : VOCABULARY);
    const ids = (factor: number): Int32Array =>
      Int32Array.from({ length: T }, (_, t) => id(micro * T + t, factor));
    return { tokens: ids(7), labels: ids(11), firstToken: micro * T };
  });
  return { rank, sessions, batches, dispose: () => engine.dispose() };
}

/** One step of four sequences, in so many micro-batches. */
function step(keys: Partial<ModelInput>, microBatches: number): Found {
  const { rank, sessions, batches, dispose } = prepared(keys, microBatches);
  const report = forwardBackward(rank, sessions, batches, { step: 0, seed: 1 });
  const gradients = Float32Array.from(rank.weights.buckets.flatMap((b) => [...rank.gradients.bucket(b)]));
  const bias = report.loads.flatMap(({ tokensPerExpert }) => tokensPerExpert);
  dispose();
  return { balance: report.balanceLoss, loss: report.loss, gradients, bias };
}

function distance(a: Float32Array, b: Float32Array): number {
  return Math.hypot(...a.map((x, i) => x - b[i])) / Math.hypot(...b);
}

describe.each<Partial<ModelInput>>([
  {},
  { gate_noise: true },
  { arch: "dgmoe", gate_noise: true },
  // Not in the loss, but a figure that is looked at.
  { balance: "bias" },
  { balance: "none" },
  // Of groups of experts, beside a bias.
  { arch: "longcat2", num_zero_experts: 2, balance_groups: 2 },
  { router_aux_loss_coef: 0 },
])("%j", (keys) => {
  it.each([2, 4])("in %i micro-batches the step is what it is in one", (microBatches) => {
    const [one, many] = [step(keys, 1), step(keys, microBatches)];
    expect(Math.abs(many.loss / one.loss - 1)).toBeLessThan(1e-6);
    expect(Math.abs(many.balance / one.balance - 1)).toBeLessThan(1e-6);
    expect(distance(many.gradients, one.gradients)).toBeLessThan(1e-5);
    expect(many.bias).toEqual(one.bias);
  });
});

describe("the selection bias", () => {
  const rate = 0.5;
  /** Biases after one step, and the loads of that step. */
  const updated = (keys: Partial<ModelInput>) => {
    const { rank, sessions, batches, dispose } = prepared({ ...keys, balance_bias_rate: rate }, 2);
    const { loads } = forwardBackward(rank, sessions, batches, { step: 0, seed: 1 });
    updateSelectionBias(rank, sessions.model, loads);
    const biases = sessions.model.routings.map(({ data: { shape } }) => [
      ...(rank.weights.buffers.get(shape.selectionBias as string)?.data ?? []),
    ]);
    dispose();
    return { loads, biases };
  };

  it("goes by the share of choices that an expert lacks of those wanted, and leaves zero experts", () => {
    const [k, N, active] = [3, 4, 1.5];
    const { loads, biases } = updated({ arch: `longcat${k}`, num_zero_experts: 2, active_experts: active });
    for (const [i, { tokensPerExpert, zeroExpertShare = NaN }] of loads.entries()) {
      const choices = k * SEQUENCE * SEQUENCES;
      expect(tokensPerExpert.reduce((a, b) => a + b, 0) / choices).toBeCloseTo(1 - zeroExpertShare, 12);
      expect(zeroExpertShare).toBeGreaterThan(0);
      const wanted = tokensPerExpert.map((rows) => Math.fround(rate * (active / k / N - rows / choices)));
      expect(biases[i]).toEqual([...wanted, 0, 0]);
    }
  });

  it("goes by signs without zero experts, unless asked otherwise", () => {
    const { loads, biases } = updated({ balance: "bias" });
    const mean = (SEQUENCE * SEQUENCES) / 4;
    expect(biases).toEqual(loads.map((l) => l.tokensPerExpert.map((rows) => rate * Math.sign(mean - rows))));
    const other = updated({ balance: "bias", balance_bias_update: "proportional" });
    expect(other.biases).toEqual(
      loads.map((l) => l.tokensPerExpert.map((rows) => (rate * (mean - rows)) / (SEQUENCE * SEQUENCES))),
    );
  });
});

it("statistics of one micro-batch are told apart from those of the step", () => {
  const one = step({ balance_statistics: "micro_batch" }, 1);
  expect(distance(step({}, 1).gradients, one.gradients)).toBe(0);
  expect(distance(step({ balance_statistics: "micro_batch" }, 2).gradients, one.gradients)).toBeGreaterThan(
    1e-3,
  );
});
