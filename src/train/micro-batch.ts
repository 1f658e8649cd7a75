/** A micro-batch, and how it is fed to a program. */
import { assert } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import type { ModelProgram } from "../model/language-model.js";
import type { TrainingProgram } from "../model/training-program.js";
import type { LossScales } from "../program/kinds.js";
import { gateNoise } from "../run/actions/gate.js";
import type { Allocation } from "../run/memory.js";
import type { BalanceStatistics } from "../run/moe/statistics.js";
import type { Rank } from "../run/rank.js";

/** This rank's rows of one micro-batch, row-major [batch · sequence]. */
export interface MicroBatch {
  readonly tokens: Int32Array;
  readonly labels: Int32Array;
  /** Index of the first token among those of the step. */
  readonly firstToken: number;
  /** For a program that tells documents apart: where in its sequence each token's document begins. */
  readonly starts?: Int32Array;
}

/** What a student is taught of a micro-batch, in engine memory. */
export interface Lesson {
  readonly logits: Tensor<Float32Array>;
  /** Of the divergence in the loss; that of the cross-entropy is the rest. */
  readonly weight: number;
}

/**
 * Copies a micro-batch into engine memory, as far as a model asks for it; the seed of every loss is its share of the
 * step's mean.
 */
export function feedBatch(
  rank: Rank,
  model: ModelProgram & Partial<TrainingProgram>,
  batch: MicroBatch,
  at: {
    readonly step: number;
    readonly seed: number;
    readonly share: number;
    readonly scales: LossScales;
    readonly statistics?: BalanceStatistics | undefined;
    /** What a student learns: the teacher's logits [T, V], and their divergence's weight in the loss. */
    readonly lesson?: Lesson | undefined;
  },
): { values: Map<number, unknown>; release: () => void } {
  const T = batch.tokens.length;
  const values = new Map<number, unknown>();
  const feed = (value: number | undefined, content: unknown): void => {
    if (value !== undefined) values.set(value, content);
  };
  const memory = [rank.memory.allocate(T), rank.memory.allocate(T), rank.memory.allocate(T)];
  const asInts = ({ f32 }: Allocation) => new Int32Array(f32.buffer, f32.byteOffset, T);
  asInts(memory[0]).set(batch.tokens);
  asInts(memory[1]).set(batch.labels);
  const { lesson } = at;
  memory[2].f32.fill((at.share * (1 - (lesson?.weight ?? 0))) / T);
  feed(model.tokens, { data: asInts(memory[0]), dims: [T] } satisfies Tensor);
  feed(model.labels, { data: asInts(memory[1]), dims: [T] } satisfies Tensor);
  feed(model.seed, { data: memory[2].f32, dims: [T] } satisfies Tensor);
  feed(model.scales, at.scales);
  if (model.distilled !== undefined) {
    assert(lesson !== undefined, "a student is fed its teacher's logits");
    const seed = rank.memory.allocate(T);
    memory.push(seed);
    seed.f32.fill((at.share * lesson.weight) / T);
    feed(model.divergenceSeed, { data: seed.f32, dims: [T] } satisfies Tensor);
    feed(model.distilled.teacher, lesson.logits);
  }
  if (at.statistics !== undefined) feed(model.statistics, at.statistics);
  if (model.starts !== undefined) {
    assert(batch.starts !== undefined, "a batch says where documents begin if they are told apart");
    const { sequence } = model.options;
    const starts = rank.memory.allocate(T);
    memory.push(starts);
    asInts(starts).set(batch.starts);
    feed(model.starts, { data: asInts(starts), dims: [T / sequence, sequence] } satisfies Tensor);
  }
  model.noise.forEach((value, index) => {
    const N = rank.config.num_experts + rank.config.num_zero_experts;
    const allocation = rank.memory.allocate(T * N);
    memory.push(allocation);
    const noise = { data: allocation.f32, dims: [T, N] };
    gateNoise(noise, {
      seed: at.seed,
      step: at.step,
      index,
      firstToken: batch.firstToken,
    });
    feed(value, noise);
  });
  return { values, release: () => memory.forEach((allocation) => rank.memory.release(allocation)) };
}
