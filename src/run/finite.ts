import type { Rank } from "./rank.js";
import type { BucketTensor } from "./weights.js";

/** The first of a rank's weights or buffers that is not finite. */
export function nonFiniteWeight({ weights, engine }: Pick<Rank, "weights" | "engine">): string | undefined {
  const sumSquares = (x: Float32Array): number => engine.routines.sumSquares(x);
  for (const bucket of weights.buckets) {
    if (Number.isFinite(sumSquares(bucket.weights))) continue;
    const found = bucket.tensors.find((t) => !Number.isFinite(sumSquares(viewOf(bucket.weights, t))));
    if (found !== undefined) return found.info.name;
  }
  for (const [name, { data }] of weights.buffers) if (!data.every(Number.isFinite)) return name;
  return undefined;
}

function viewOf(bucket: Float32Array, { offset, size }: BucketTensor): Float32Array {
  return bucket.subarray(offset, offset + size);
}
