/** Runs of parameters as the reduction of their gradients sees them: in training, and before anything is made. */
import type { Group } from "../program/kinds.js";
import type { ReductionBucket } from "../program/reduction.js";
import type { TensorRun } from "./buckets.js";

/** Replicated parameters are summed over all ranks, experts over the ranks that hold the same experts. */
export function groupOf({ kind }: Pick<TensorRun, "kind">): Exclude<Group, "ep"> {
  return kind === "replicated" ? "world" : "replicas";
}

/** Of a bucket: a program with thousands of them is slow to place. */
const MAX_PIECES = 16;

export interface ReductionOptions {
  readonly ranks: number;
  readonly epSize: number;
  /** Whether the optimiser state of replicated weights is sharded over all ranks (ZeRO-1). */
  readonly zero: boolean;
  readonly wire?: ReductionBucket["wire"];
  /** Of a gradient. Default 4. */
  readonly elementBytes?: number;
  readonly maxPieces?: number;
}

export function reductionBuckets(
  runs: readonly Pick<TensorRun, "name" | "kind" | "size" | "infos">[],
  { ranks, epSize, zero, wire = "f32", elementBytes = 4, maxPieces = MAX_PIECES }: ReductionOptions,
): ReductionBucket[] {
  return runs.map((run) => {
    const isSharded = zero && run.kind === "replicated";
    return {
      name: run.name,
      families: run.infos.map(({ family }) => family),
      bytes: run.size * elementBytes,
      group: groupOf(run),
      ranks: run.kind === "replicated" ? ranks : ranks / epSize,
      gathers: isSharded ? "weights" : "gradients",
      wire,
      updated: isSharded ? Math.ceil(run.size / ranks) : run.size,
      maxPieces,
    };
  });
}
