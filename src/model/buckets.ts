/** Runs of parameters that lie together: what the optimiser and the gradient reduction take as one. */
import type { ParameterInfo } from "./parts/part.js";

export interface BucketLayout {
  readonly epRank: number;
  readonly epSize: number;
  /** Elements from which on a bucket is closed; small in tests. */
  readonly bucketElements?: number;
}

export interface TensorRun {
  readonly name: string;
  readonly kind: "replicated" | "expert";
  readonly infos: readonly ParameterInfo[];
  /** Elements. */
  readonly size: number;
}

const MAX_BUCKET = 2 ** 24;
const MIN_BUCKET = 2 ** 18;
const BUCKETS = 48;

/** All replicated parameters, and the experts that lie on a rank. */
export function localParameters(
  parameters: readonly ParameterInfo[],
  { epRank, epSize }: BucketLayout,
): ParameterInfo[] {
  const numExperts = Math.max(0, ...parameters.map(({ expert = -1 }) => expert + 1));
  const perRank = numExperts / epSize;
  return parameters.filter(({ expert }) => expert === undefined || Math.floor(expert / perRank) === epRank);
}

/** A rank's trained parameters in runs of one kind, cut only where a parameter says that it may be. */
export function bucketsOf(parameters: readonly ParameterInfo[], layout: BucketLayout): TensorRun[] {
  const trained = localParameters(parameters, layout).filter(({ buffer }) => !buffer);
  // Many: the first are reduced while the backward pass goes on, and gathered while the forward pass does.
  const share = Math.ceil(trained.reduce((sum, info) => sum + sizeOf(info), 0) / BUCKETS);
  const wanted = layout.bucketElements ?? Math.min(MAX_BUCKET, Math.max(MIN_BUCKET, share));
  type Open = { kind: TensorRun["kind"]; infos: ParameterInfo[]; size: number };
  const open = new Map<TensorRun["kind"], Open>();
  const runs: Open[] = [];
  for (const info of trained) {
    const kind = info.expert === undefined ? "replicated" : "expert";
    let run = open.get(kind);
    if (run === undefined || (run.size >= wanted && info.mayStartBucket)) {
      run = { kind, infos: [], size: 0 };
      open.set(kind, run);
      runs.push(run);
    }
    run.infos.push(info);
    run.size += sizeOf(info);
  }
  return runs.map((run, i) => ({ ...run, name: `${run.kind}.${i}` }));
}

function sizeOf({ dims }: ParameterInfo): number {
  return dims.reduce((a, b) => a * b, 1);
}
