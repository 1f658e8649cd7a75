/** What a step leaves to the next one, and micro-batches side by side: when it happens shows in no bit, how steps are cut only in rounding. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CheckpointReader } from "../src/storage/checkpoint-reader.js";
import { onRanks } from "./on-ranks.js";
import * as parallel from "./parallel.js";
import {
  type Layout,
  type Run,
  expectSameGradients,
  expectSameLosses,
  relative,
  stepName,
} from "./parallel.js";

const STEPS = 6;
const train = (sets: readonly string[], layout: Layout): Promise<Run> =>
  parallel.train([`train.steps=${STEPS}`, ...sets], layout);

/** All weights at the end of a run. */
function weightsOf({ directory }: Run): Map<string, Float32Array> {
  const reader = new CheckpointReader(join(directory, "checkpoints", stepName(STEPS)));
  const weights = new Map<string, Float32Array>();
  for (const name of reader.names("model")) {
    const data = new Float32Array(reader.dims("model", name).reduce((a, b) => a * b, 1));
    reader.readPiecesInto("model", name, data, 0);
    weights.set(name, data);
  }
  reader.close();
  return weights;
}

/** No checkpoint before the end: every step but the last leaves its update to the next. */
const RARE = "train.checkpoint_interval=1000";
/** Of sequences; 8 of them are a step. */
const micro = (size: number, atOnce: number): string[] => [
  `train.micro_batch_size=${size}`,
  `train.micro_batches_at_once=${atOnce}`,
];

describe("weights updated on the way through the next step are those of an update of its own", () => {
  it.each<[string, Layout, string[]]>([
    ["EP 2", { ranks: 2 }, []],
    ["EP 2, ZeRO-1", { ranks: 2, zero: true }, []],
    ["DP 2 × EP 2, gradients in bf16", { ranks: 4, ep: 2 }, ["parallel.wire_gradients=bf16"]],
    ["EP 2, ZeRO-1, gradients in bf16", { ranks: 2, zero: true }, ["parallel.wire_gradients=bf16"]],
    ["several runs a step", { ranks: 2 }, [...micro(1, 2), "model.balance_statistics=micro_batch"]],
    ["gates ahead", { ranks: 2 }, micro(1, 2)],
  ])("%s", async (_, layout, sets) => {
    const [apart, along] = [await train(sets, layout), await train([...sets, RARE], layout)];
    expect(along.losses).toEqual(apart.losses);
    expect(along.norms).toEqual(apart.norms);
    expect(weightsOf(along)).toEqual(weightsOf(apart));
  });
});

it.each<[string, Layout]>([
  ["EP 2", { ranks: 2 }],
  ["DP 2 × EP 2, ZeRO-1", { ranks: 4, ep: 2, zero: true }],
])("buckets that travel in several uneven pieces are summed like whole ones: %s", async (_, layout) => {
  const wide = [
    "model.intermediate_size=16385",
    "train.batch_size=4",
    "data.sequence_length=8",
    "train.steps=2",
  ];
  const [pieces, one] = [await train(wide, layout), await train(wide, { ranks: 1 })];
  expectSameLosses(pieces, one);
  expectSameGradients(pieces, one);
});

it("micro-batches give the same numbers together and one after the other, within rounding", async () => {
  const layout = { ranks: 2 };
  const alone = await train(micro(1, 1), layout);
  for (const atOnce of [2, 4]) expectSameLosses(await train(micro(1, atOnce), layout), alone);
  expectSameLosses(await train([], layout), alone);
});

it("gradients in bf16 on the wire cost little accuracy, and not none", async () => {
  const exact = await train([RARE], { ranks: 2 });
  for (const zero of [false, true]) {
    const run = await train([RARE, "parallel.wire_gradients=bf16"], { ranks: 2, zero });
    const error = relative(run.losses, exact.losses);
    expect(error).toBeLessThan(1e-3);
    expect(error).toBeGreaterThan(1e-7);
  }
});

it("copies of weights stay equal on all ranks, whatever the wire rounds", async () => {
  const dist = (file: string): string => JSON.stringify(new URL(`../dist/${file}`, import.meta.url).href);
  const found = await onRanks<string[]>(
    2,
    `
    const [{ createOrtEngine }, { resolveModel }, { createTrainee }, { openStep }, { trainStep }, { sequential }] =
      await Promise.all([${["engine/ort-engine.js", "model/config.js", "train/trainee.js", "train/step-sessions.js", "train/step.js", "schedule/sequential.js"].map((file) => `import(${dist(file)})`).join()}]);
    const engine = createOrtEngine();
    const config = resolveModel({ arch: "scmoe-pos2", vocab_size: 8191, hidden_size: 130, intermediate_size: 33,
      num_attention_heads: 2, num_hidden_layers: 2, num_experts: 4, max_position_embeddings: 8 });
    const rank = createTrainee({ config, engine, world: comm });
    rank.weights.initialize(1, 0.1);
    const program = { batch: 1, sequence: 8, epSize: 2, wireGradients: "bf16" };
    const sessions = openStep(rank, program, sequential);
    const ids = (factor) => Int32Array.from({ length: 8 }, (_, i) => (i * factor + comm.rank) % 67);
    const options = { seed: 1, learningRate: 0.01, optimizer: { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip_norm: 1 } };
    for (let step = 0; step < 3; step++)
      trainStep(rank, sessions, [{ tokens: ids(5), labels: ids(7), firstToken: 8 * comm.rank }], { ...options, step });
    const { createHash } = await import("node:crypto");
    const hashes = rank.weights.buckets.filter(({ kind }) => kind === "replicated")
      .map(({ weights }) => createHash("sha256").update(Buffer.from(weights.slice().buffer)).digest("hex"));
    engine.dispose();
    return hashes;`,
    { deadlineMs: 30_000 },
  );
  expect(found[0]).toHaveLength(2);
  expect(found[0]).toEqual(found[1]);
});
