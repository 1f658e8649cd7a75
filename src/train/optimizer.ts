/** AdamW over flat buckets, with clipping by the norm of the whole model (method 9.2, 9.3). */
import { sumScalars } from "../comm/collectives.js";
import { sliceOf } from "../comm/regions.js";
import { groupOf } from "../model/gradient-buckets.js";
import type { Bucket } from "../run/weights.js";
import { type Updating, ownedPieces } from "./moments.js";

/** By the names that a config has for them. */
export interface AdamWOptions {
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weight_decay: number;
  /** Largest global gradient norm; null: no clipping. */
  readonly clip_norm: number | null;
}

/**
 * Norm over every parameter of the model, whichever rank holds it: each rank adds the squares of its slice of each
 * bucket, the sums are added in rank order.
 */
export function gradientNorm(rank: Updating): number {
  let sum = 0;
  for (const bucket of rank.weights.buckets) {
    const group = rank[groupOf(bucket)];
    const { start, end } = sliceOf(bucket.size, group.rank, group.size);
    sum += rank.engine.routines.sumSquares(rank.gradients.bucket(bucket).subarray(start, end));
  }
  return Math.sqrt(sumScalars(rank.world, [sum], "gradient norm")[0]);
}

/** Factor the gradients are multiplied by before the update (PyTorch's clip_grad_norm_: max / (norm + 1e-6)). */
export function clipFactor(norm: number, clipNorm: number | null): number {
  if (clipNorm === null) return 1;
  return Math.min(1, clipNorm / (norm + 1e-6));
}

/** What a step has found out about the update of all weights. */
export interface Update {
  /** Counted from 1. */
  readonly step: number;
  readonly learningRate: number;
  readonly gradScale: number;
  readonly options: AdamWOptions;
}

/** One update of what this rank owns of a bucket. Weight decay applies to tensors with two or more dimensions only. */
export function updateBucket(rank: Updating, bucket: Bucket, update: Update): void {
  const { options } = update;
  const [beta1, beta2] = options.betas;
  const gradients = rank.gradients.bucket(bucket);
  for (const { tensor, start, end, expAvg, expAvgSq } of ownedPieces(rank, bucket))
    rank.engine.routines.adamw(
      bucket.weights.subarray(start, end),
      gradients.subarray(start, end),
      expAvg,
      expAvgSq,
      {
        learningRate: update.learningRate,
        beta1,
        beta2,
        eps: options.eps,
        weightDecay: tensor.info.dims.length >= 2 ? options.weight_decay : 0,
        step: update.step,
        gradScale: update.gradScale,
      },
    );
}

/** Linear warm-up, then cosine decay to `minimum` at `totalSteps` (method 9.4). `step` counts from 0. */
export function learningRateAt(
  step: number,
  schedule: {
    readonly peak: number;
    readonly minimum: number;
    readonly warmupSteps: number;
    readonly totalSteps: number;
  },
): number {
  const { peak, minimum, warmupSteps, totalSteps } = schedule;
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
  return minimum + 0.5 * (peak - minimum) * (1 + Math.cos(Math.PI * progress));
}
