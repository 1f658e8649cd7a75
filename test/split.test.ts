/** Weight gradients split from input gradients: the same numbers, whatever runs in between. */
import { afterAll, describe, expect, it } from "vitest";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { buildTrainingProgram } from "../src/model/training-program.js";
import type { LossScales } from "../src/program/kinds.js";
import { Session } from "../src/run/session.js";
import { parsePolicy } from "../src/schedule/policy.js";
import { VOCABULARY, smallTrainee } from "./trainee.js";

const engine = createOrtEngine();
afterAll(() => engine.dispose());

const [batch, sequence] = [2, 16];
const T = batch * sequence;

function gradients(
  arch: string,
  style: string,
  options: { split: boolean; chunks?: number; policy: string },
) {
  const rank = smallTrainee(engine, arch, style, sequence);
  rank.gradients.zero();
  const model = buildTrainingProgram(rank.config, {
    batch,
    sequence,
    epSize: 1,
    chunks: options.chunks ?? 1,
    splitWeightGradients: options.split,
  });
  const ints = [7, 14].map((factor) => {
    const { f32 } = rank.memory.allocate(T);
    const view = new Int32Array(f32.buffer, f32.byteOffset, T);
    for (let i = 0; i < T; i++) view[i] = (i * factor) % VOCABULARY;
    return view;
  });
  const seed = rank.memory.allocate(T).f32.fill(1 / T);
  const liveBefore = rank.memory.liveBytes;
  const session = new Session(rank, model.program);
  const run = session.run(
    parsePolicy(options.policy).schedule(model.program),
    new Map<number, unknown>([
      [model.tokens, { data: ints[0], dims: [T] }],
      [model.labels, { data: ints[1], dims: [T] }],
      [model.seed, { data: seed, dims: [T] }],
      [model.scales, { balance: 0.01, z: 0 } satisfies LossScales],
    ]),
  );
  run.release();
  expect(rank.memory.liveBytes).toBe(liveBefore);
  return rank.weights.buckets.flatMap((bucket) => [...rank.gradients.bucket(bucket)]);
}

function distance(a: readonly number[], b: readonly number[]): number {
  const norm = (values: readonly number[]): number => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
  return norm(a.map((x, i) => x - b[i])) / norm(b);
}

describe.each(["top2", "scmoe-pos2", "dgmoe"])("%s", (arch) => {
  it.each(["gpt", "llama"])("%s: split and whole agree", (style) => {
    const whole = gradients(arch, style, { split: false, policy: "sequential" });
    const split = gradients(arch, style, { split: true, policy: "sequential" });
    expect(whole.some((x) => x !== 0)).toBe(true);
    expect(distance(split, whole)).toBeLessThanOrEqual(1e-6);
    // Schedules of the split program give its own bits.
    expect(gradients(arch, style, { split: true, policy: "adaptive" })).toEqual(split);
    const chunked = gradients(arch, style, { split: true, policy: "adaptive(2)", chunks: 2 });
    expect(distance(chunked, whole)).toBeLessThanOrEqual(1e-5);
  });
});
