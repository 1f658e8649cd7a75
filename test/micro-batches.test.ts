/** Several micro-batches in one program: the bits of one order, whatever overlaps, and gradients of as many runs of the single program. */
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../src/core/errors.js";
import type { Tensor } from "../src/core/tensor.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { type TrainingProgram, buildTrainingProgram } from "../src/model/training-program.js";
import type { LossScales } from "../src/program/kinds.js";
import { withReduction } from "../src/program/reduction.js";
import { type RepeatedProgram, repeatProgram } from "../src/program/repeat.js";
import { Session } from "../src/run/session.js";
import { parsePolicy } from "../src/schedule/policy.js";
import { sequential } from "../src/schedule/sequential.js";
import { reductionBuckets } from "../src/model/gradient-buckets.js";
import type { Trainee } from "../src/train/trainee.js";
import { VOCABULARY, smallTrainee } from "./trainee.js";

const engine = createOrtEngine();
afterAll(() => engine.dispose());

const [batch, sequence, TIMES] = [2, 16, 3];
const T = batch * sequence;
const SCALES: LossScales = { balance: 0.01, z: 0.001 };

/** What a micro-batch is fed; none is like another. The scales are common. */
function contents(rank: Trainee, micro: number): Map<"tokens" | "labels" | "seed", Tensor> {
  const ints = (factor: number): Int32Array => {
    const { f32 } = rank.memory.allocate(T);
    const view = new Int32Array(f32.buffer, f32.byteOffset, T);
    for (let i = 0; i < T; i++) view[i] = (i * factor + 5 * micro) % VOCABULARY;
    return view;
  };
  const seed = rank.memory.allocate(T).f32.fill((micro + 1) / T);
  return new Map<"tokens" | "labels" | "seed", Tensor>([
    ["tokens", { data: ints(7 + 2 * micro), dims: [T] }],
    ["labels", { data: ints(13), dims: [T] }],
    ["seed", { data: seed, dims: [T] }],
  ]);
}

describe.each(["scmoe-pos2", "dgmoe"])("%s", (arch) => {
  const rank = smallTrainee(engine, arch, "gpt", sequence);
  const micros = Array.from({ length: TIMES }, (_, micro) => contents(rank, micro));
  const liveBytes = rank.memory.liveBytes;
  const feedsOf = (
    model: TrainingProgram,
    ids: readonly (readonly number[])[],
    from = 0,
  ): Map<number, unknown> =>
    new Map<number, unknown>([
      [model.scales, SCALES],
      ...ids.flatMap((to, copy) =>
        [...micros[from + copy]].map(([name, tensor]) => [to[model[name]], tensor] as const),
      ),
    ]);
  const copyOf = (data: ArrayLike<number>): number[] => Array.from(data);
  const gradients = (): number[] => rank.weights.buckets.flatMap((b) => copyOf(rank.gradients.bucket(b)));

  /** Losses of each micro-batch, and gradients, of one run after another. */
  function oneByOne(model: TrainingProgram): { losses: number[][]; gradients: number[] } {
    const session = new Session(rank, model.program, { keep: [model.output] });
    const schedule = sequential(model.program);
    const own = [model.program.values.map(({ id }) => id)];
    rank.gradients.zero();
    const losses = micros.map((_, micro) => {
      const run = session.run(schedule, feedsOf(model, own, micro));
      const found = copyOf(run.read<Tensor<Float32Array>>(model.output).data);
      run.release();
      return found;
    });
    return { losses, gradients: gradients() };
  }

  function together(model: TrainingProgram, { program, values }: RepeatedProgram, policy: string) {
    const session = new Session(rank, program, { keep: values.map((ids) => ids[model.output]) });
    rank.gradients.zero();
    const run = session.run(parsePolicy(policy).schedule(program), feedsOf(model, values));
    const losses = values.map((ids) => copyOf(run.read<Tensor<Float32Array>>(ids[model.output]).data));
    run.release();
    expect(rank.memory.liveBytes).toBe(liveBytes);
    return { losses, gradients: gradients() };
  }

  it.each([
    { chunks: 1, splitWeightGradients: false, policies: ["sequential", "adaptive", "fixed(2)"] },
    { chunks: 2, splitWeightGradients: true, policies: ["sequential", "adaptive(2)", "pipelined(2)"] },
  ])(
    "has one result under any policy, and that of one after another: $policies",
    ({ policies, ...options }) => {
      const model = buildTrainingProgram(rank.config, { batch, sequence, epSize: 1, ...options });
      const repeated = repeatProgram(model.program, TIMES, { shared: new Set([model.scales]) });
      const apart = oneByOne(model);
      expect(apart.gradients.some((x) => x !== 0)).toBe(true);
      expect(apart.losses[0]).not.toEqual(apart.losses[1]);
      const wanted = together(model, repeated, "sequential");
      expect(wanted.losses).toEqual(apart.losses);
      // What adds to one gradient twice (the embedding, tied to the head) does so in another order.
      const scale = Math.max(...apart.gradients.map(Math.abs));
      wanted.gradients.forEach((g, i) => expect(Math.abs(g - apart.gradients[i])).toBeLessThan(1e-6 * scale));
      for (const policy of policies) expect(together(model, repeated, policy)).toEqual(wanted);
      // A rank that reduces with itself keeps its gradients.
      const buckets = reductionBuckets(rank.weights.buckets, { ranks: 1, epSize: 1, zero: false }).map(
        (bucket) => ({ ...bucket, ranks: 2 }),
      );
      const reduced = { ...repeated, program: withReduction(repeated.program, buckets) };
      expect(reduced.program.operators.length).toBeGreaterThan(repeated.program.operators.length);
      expect(together(model, reduced, policies[1])).toEqual(wanted);
    },
  );

  it("refuses an order in which a later micro-batch adds to a gradient first", () => {
    const model = buildTrainingProgram(rank.config, { batch, sequence, epSize: 1 });
    const { program, values } = repeatProgram(model.program, TIMES, { shared: new Set([model.scales]) });
    const { order, ...rest } = sequential(program);
    const compute = order.compute.toSorted(
      (a, b) => (program.operators[b].microBatch ?? 0) - (program.operators[a].microBatch ?? 0),
    );
    const session = new Session(rank, program);
    const wrong = { ...rest, edges: [], order: { ...order, compute } };
    expect(() => session.run(wrong, feedsOf(model, values))).toThrow(InputError);
    expect(() => session.run(wrong, feedsOf(model, values))).toThrow(/not legal: .* would wait for itself/);
  });
});
