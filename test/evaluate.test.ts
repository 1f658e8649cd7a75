/** Evaluation: every sequence once, the same figure on any layout. */
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { evaluate } from "../src/api/evaluate.js";
import type { EvaluateResult } from "../src/train/evaluate.js";
import { MINI, metricRows, scmoe, temporaryDirectory } from "./helpers.js";

const dir = temporaryDirectory();
const model = join(dir, "run");
const cache = join(dir, ".scmoe/cache");
const set = (...keys: string[]): string[] => keys.flatMap((key) => ["--set", key]);
const train = (run: string, ...more: string[]) =>
  scmoe(
    ["train", "-q", "-o", run, ...MINI, ...set("train.steps=2", "model.capacity_factor=1", ...more)],
    dir,
  );

beforeAll(() => {
  expect(train("run").stderr).toBe("");
});

const run = (of: { ranks?: number; batchSize?: number; batches?: number; capacity?: boolean }) =>
  evaluate({ model, cache, batches: 11, batchSize: 2, ...of });

describe("the loss", () => {
  let one: EvaluateResult;
  beforeAll(async () => {
    one = await run({});
    expect(one.sequences).toBe(11);
  });

  it.each([
    { ranks: 2, batchSize: 2 },
    { ranks: 3, batchSize: 2 },
    { ranks: 4, batchSize: 1 },
    { ranks: 4, batchSize: 8 },
    { ranks: 1, batchSize: 16 },
  ])("is the same with %o", async (layout) => {
    const { loss, sequences } = await run(layout);
    expect(sequences).toBe(11);
    expect(Math.abs(loss / one.loss - 1)).toBeLessThan(1e-6);
  });

  it("is another with the capacity of training, which drops tokens", async () => {
    const { loss } = await run({ capacity: true });
    expect(Math.abs(loss / one.loss - 1)).toBeGreaterThan(1e-5);
  });

  it("counts other sequences when it is asked for more", async () => {
    expect((await run({ batches: 12 })).loss).not.toBe(one.loss);
  });
});

it("in training it does not depend on micro-batches or ranks", () => {
  const losses = [
    [],
    ["train.micro_batch_size=2"],
    ["train.micro_batch_size=1", "parallel.expert_parallel=1"],
  ].map((keys, i) => {
    const name = `cut-${i}`;
    const dropless = ["model.capacity_factor=null", "train.eval_batches=5", ...keys];
    expect(train(name, ...dropless).stderr).toBe("");
    return Number(metricRows(join(dir, name)).at(-1)?.validation_loss);
  });
  for (const loss of losses) expect(Math.abs(loss / losses[0] - 1)).toBeLessThan(1e-6);
});
