/** What a rank owns beyond its weights while it trains: gradients, and the optimiser's moments. */
import { sliceOf } from "../comm/regions.js";
import { Gradients } from "../run/gradients.js";
import { type RankOptions, createRank } from "../run/rank.js";
import { type Bucket, besideWeights } from "../run/weights.js";
import type { Moments, Updating } from "./moments.js";
import { type Update, updateBucket } from "./optimizer.js";
import type { Teacher } from "./teacher.js";

export interface Trainee extends Updating {
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
  const updating = { ...rank, gradients, moments };
  return {
    ...updating,
    zero,
    stateBytes: rank.weights.bytes + gradients.bytes + momentBytes,
    optimizer: (bucket, update) => updateBucket(updating, bucket, update as Update),
  };
}
