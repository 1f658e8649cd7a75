/** Evaluation: every sequence once, the same figure on any layout. */
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { evaluate } from "../src/api/evaluate.js";
import { singleCommunicator } from "../src/comm/single.js";
import { openHeldOut } from "../src/data/held-out.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { createInferenceRank } from "../src/run/inference-rank.js";
import { openModel } from "../src/run/open-model.js";
import { type EvaluateResult, Evaluator } from "../src/train/evaluate.js";
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

describe("with weights in the forms of inference", () => {
  const trained = join(dir, "trained");
  beforeAll(() => {
    expect(train("trained", "train.steps=20", "train.learning_rate=0.01").stderr).toBe("");
  });
  const lossOf = (of: { quantize?: "int8" | "int4"; ranks?: number }) =>
    evaluate({ model: trained, cache, batches: 4, batchSize: 2, ...of });

  it("f32: what weights that are inputs give", async () => {
    const { config, source, directory, tokenizer } = openModel(trained);
    const engine = createOrtEngine();
    const rank = createInferenceRank({ config, engine, world: singleCommunicator(), source, form: "f32" });
    const data = openHeldOut(
      {
        corpus: "sotu",
        cacheDirectory: cache,
        vocabSize: config.vocab_size,
        tokenizer,
        onProgress: () => undefined,
      },
      directory,
    );
    const shape = { sequence: config.max_position_embeddings, batch: 2, sequences: 4, withCapacity: false };
    const evaluator = new Evaluator(rank, data.validation, shape);
    rank.weights.close();
    expect(Math.abs(evaluator.run() / (await lossOf({})).loss - 1)).toBeLessThan(1e-6);
    engine.dispose();
  });

  it("8 bits cost little, 4 more; on any number of ranks as much", async () => {
    const plain = await lossOf({});
    expect(plain.loss).toBeLessThan(6);
    expect(plain.quantised).toBe(undefined);
    const costs: number[] = [];
    for (const form of ["int8", "int4"] as const) {
      const { loss, quantised } = await lossOf({ quantize: form });
      expect(loss).toBe(plain.loss);
      expect(quantised?.form).toBe(form);
      costs.push(Math.abs((quantised?.loss as number) - loss));
    }
    const spread = await lossOf({ quantize: "int4", ranks: 2 });
    expect(Math.abs((spread.quantised?.loss as number) - plain.loss) / costs[1] - 1).toBeLessThan(1e-2);
    expect(costs[0]).toBeGreaterThan(1e-7);
    expect(costs[0]).toBeLessThan(2e-3);
    expect(costs[1]).toBeGreaterThan(costs[0]);
    expect(costs[1]).toBeLessThan(2e-2);
  });

  it("are said beside the model's own loss; another form is refused", () => {
    const run = (...more: string[]) => scmoe(["eval", trained, "--batches", "2", ...more], dir);
    expect(run("--quantize", "int4").stdout).toMatch(
      /: loss \d\.\d{4} nats .*\nint4 weights: loss \d\.\d{4} \([+−]0\.\d{4}\), perplexity \d+\.\d\d\n$/,
    );
    const { quantised } = JSON.parse(run("--quantize", "int8", "--json").stdout) as EvaluateResult;
    expect(quantised?.form).toBe("int8");
    const refused = run("--quantize", "int5");
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('quantize is "int5", wanted int8 or int4');
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
