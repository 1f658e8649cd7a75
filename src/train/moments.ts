/** The optimiser's moments, and the part of each tensor that a rank updates. */
import type { Gradients } from "../run/gradients.js";
import type { Rank } from "../run/rank.js";
import type { Bucket, BucketTensor } from "../run/weights.js";

/** First and second moments of the range [start, end) of a bucket that this rank updates. */
export interface Moments {
  readonly start: number;
  readonly end: number;
  readonly expAvg: Float32Array;
  readonly expAvgSq: Float32Array;
}

/** A rank that updates its weights. */
export interface Updating extends Rank {
  readonly gradients: Gradients;
  /** By bucket. */
  readonly moments: ReadonlyMap<Bucket, Moments>;
}

/** The part of a tensor that this rank updates: elements [start, end) of its bucket, with their moments. */
export interface OwnedPiece {
  readonly tensor: BucketTensor;
  readonly start: number;
  readonly end: number;
  readonly expAvg: Float32Array;
  readonly expAvgSq: Float32Array;
}

export function ownedPieces(rank: Pick<Updating, "moments">, bucket: Bucket): OwnedPiece[] {
  const owned = momentsOf(rank, bucket);
  return bucket.tensors.flatMap((tensor) => {
    const start = Math.max(tensor.offset, owned.start);
    const end = Math.min(tensor.offset + tensor.size, owned.end);
    if (start >= end) return [];
    const of = (moment: Float32Array) => moment.subarray(start - owned.start, end - owned.start);
    return [{ tensor, start, end, expAvg: of(owned.expAvg), expAvgSq: of(owned.expAvgSq) }];
  });
}

export function momentsOf({ moments }: Pick<Updating, "moments">, bucket: Bucket): Moments {
  return moments.get(bucket) as Moments;
}
