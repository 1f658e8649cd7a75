/** What a rank owns beyond its weights while it trains: gradients, and the optimiser's moments. */
import { sliceOf } from "../comm/regions.js";
import { Gradients } from "../run/gradients.js";
import type { Teacher } from "./teacher.js";
import { type Rank, type RankOptions, createRank } from "../run/rank.js";
import { type Bucket, type BucketTensor, besideWeights } from "../run/weights.js";

/** First and second moments of the range [start, end) of a bucket that this rank updates. */
export interface Moments {
  readonly start: number;
  readonly end: number;
  readonly expAvg: Float32Array;
  readonly expAvgSq: Float32Array;
}

export interface Trainee extends Rank {
  readonly gradients: Gradients;
  /** By bucket. */
  readonly moments: ReadonlyMap<Bucket, Moments>;
  /** Whether the optimiser state of replicated weights is sharded over all ranks (ZeRO-1). */
  readonly zero: boolean;
  /** Weights, gradients and moments on this rank. */
  readonly stateBytes: number;
  /** Whom it learns from beside the text. */
  readonly teacher?: Teacher | undefined;
}

export interface TraineeOptions extends Omit<RankOptions, "beside"> {
  readonly zero?: boolean;
}

/** @throws InputError as `createRank` */
export function createTrainee(options: TraineeOptions): Trainee {
  const { world, engine, zero = false } = options;
  const owned = ({ kind, size }: Pick<Bucket, "kind" | "size">): { start: number; end: number } =>
    zero && kind === "replicated" ? sliceOf(size, world.rank, world.size) : { start: 0, end: size };
  const beside = (bucket: Pick<Bucket, "kind" | "size">): number => {
    const { start, end } = owned(bucket);
    return bucket.size + 2 * (end - start);
  };
  const rank = createRank({ ...options, beside });
  const gradients = new Gradients(rank.weights);
  const moments = new Map(
    rank.weights.buckets.map((bucket): [Bucket, Moments] => {
      const { start, end } = owned(bucket);
      const array = (label: string): Float32Array =>
        besideWeights(engine, bucket, { length: end - start, label });
      return [bucket, { start, end, expAvg: array("exp_avg"), expAvgSq: array("exp_avg_sq") }];
    }),
  );
  const momentBytes = [...moments.values()].reduce((sum, m) => sum + 2 * m.expAvg.byteLength, 0);
  return {
    ...rank,
    gradients,
    moments,
    zero,
    stateBytes: rank.weights.bytes + gradients.bytes + momentBytes,
  };
}

/** The part of a tensor that this rank updates: elements [start, end) of its bucket, with their moments. */
export interface OwnedPiece {
  readonly tensor: BucketTensor;
  readonly start: number;
  readonly end: number;
  readonly expAvg: Float32Array;
  readonly expAvgSq: Float32Array;
}

export function ownedPieces(rank: Trainee, bucket: Bucket): OwnedPiece[] {
  const owned = momentsOf(rank, bucket);
  return bucket.tensors.flatMap((tensor) => {
    const start = Math.max(tensor.offset, owned.start);
    const end = Math.min(tensor.offset + tensor.size, owned.end);
    if (start >= end) return [];
    const of = (moment: Float32Array) => moment.subarray(start - owned.start, end - owned.start);
    return [{ tensor, start, end, expAvg: of(owned.expAvg), expAvgSq: of(owned.expAvgSq) }];
  });
}

export function momentsOf(rank: Trainee, bucket: Bucket): Moments {
  return rank.moments.get(bucket) as Moments;
}
