/** AdamW over flat buckets, with clipping by the norm of the whole model (conventions, "AdamW"). */
import { sumScalars } from "../comm/collectives.js";
import { sliceOf } from "../comm/slots.js";
import { gather, reductionGroup } from "../run/actions/reduction.js";
import type { Bucket } from "../run/parameter-store.js";
import type { Rank } from "../run/rank.js";

export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  /** Largest global gradient norm; null: no clipping. */
  readonly clipNorm: number | null;
}

/**
 * Norm over every parameter of the model, whichever rank holds it: each rank adds the squares of its slice of each
 * bucket, the sums are added in rank order.
 */
export function gradientNorm(rank: Rank): number {
  let sum = 0;
  for (const bucket of rank.parameters.buckets) {
    const group = reductionGroup(bucket, rank);
    const { start, end } = sliceOf(bucket.size, group.rank, group.size);
    sum += rank.engine.routines.sumSquares(bucket.gradients.subarray(start, end));
  }
  return Math.sqrt(sumScalars(rank.world, [sum], "gradient norm")[0]);
}

/** Factor the gradients are multiplied by before the update (PyTorch's clip_grad_norm_: max / (norm + 1e-6)). */
export function clipFactor(norm: number, clipNorm: number | null): number {
  if (clipNorm === null) return 1;
  return Math.min(1, clipNorm / (norm + 1e-6));
}

/** One update, `step` counted from 1. Weight decay applies to tensors with two or more dimensions only. */
export function adamWStep(
  rank: Rank,
  options: AdamWOptions,
  update: { readonly step: number; readonly learningRate: number; readonly gradScale: number },
): void {
  for (const bucket of rank.parameters.buckets) updateBucket(rank, bucket, options, update);
  if (!rank.zero) return;
  for (const bucket of rank.parameters.buckets) {
    if (bucket.kind !== "replicated") continue;
    gather(`weights ${bucket.name}`, rank.world, bucket.weights).pending.wait();
  }
}

function updateBucket(
  rank: Rank,
  bucket: Bucket,
  options: AdamWOptions,
  update: { step: number; learningRate: number; gradScale: number },
): void {
  const { ownedStart, ownedEnd } = bucket;
  for (const { info, offset, size } of bucket.tensors) {
    const start = Math.max(offset, ownedStart);
    const end = Math.min(offset + size, ownedEnd);
    if (start >= end) continue;
    rank.engine.routines.adamw(
      bucket.weights.subarray(start, end),
      bucket.gradients.subarray(start, end),
      bucket.expAvg.subarray(start - ownedStart, end - ownedStart),
      bucket.expAvgSq.subarray(start - ownedStart, end - ownedStart),
      {
        learningRate: update.learningRate,
        beta1: options.beta1,
        beta2: options.beta2,
        eps: options.eps,
        weightDecay: info.dims.length >= 2 ? options.weightDecay : 0,
        step: update.step,
        gradScale: update.gradScale,
      },
    );
  }
}

/** Linear warm-up, then cosine decay to `minimum` at `totalSteps`. `step` counts from 0. */
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
