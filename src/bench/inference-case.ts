/** What a comparison runs of inference: a chunk of a prompt, or a token of each of many sequences, over caches that are as full as asked. */
import type { Tensor } from "../core/tensor.js";
import { CachedForward, type CachedRows } from "../infer/cached-forward.js";
import type { BlockCache } from "../model/wires.js";
import type { Schedule } from "../program/schedule.js";
import type { RunResult } from "../run/execution.js";
import type { Session } from "../run/session.js";
import type { Policy } from "../schedule/policy.js";
import type { Trainee } from "../train/trainee.js";
import { randomBatch } from "./random-batch.js";

export interface InferenceShape {
  /** decode: sequences of a rank. prefill reads one. */
  readonly batch: number;
  /** prefill: rows of the chunk. decode: rows that each sequence has in the cache. */
  readonly sequence: number;
}

export interface InferenceCase {
  readonly session: Session;
  readonly run: (schedule: Schedule) => RunResult;
}

/** Weights are compiled into the kernels, as inference has them. */
export function inferenceCase(
  rank: Trainee,
  mode: "prefill" | "decode",
  { batch, sequence, policy }: InferenceShape & { readonly policy: Policy },
): InferenceCase {
  const isPrefill = mode === "prefill";
  const [sequences, rows, past] = isPrefill ? [1, sequence, 0] : [batch, 1, sequence];
  const capacity = past + rows;
  const forward = new CachedForward(rank, rank.config, {
    capacity,
    rows: { batch: sequences, sequence: rows },
    epSize: rank.ep.size,
    policy,
    session: { weights: "fixed" },
  });
  const { tokens } = randomBatch(rank.config.vocab_size, sequences * rows, 7 + rank.world.rank);
  const fed: CachedRows = {
    tokens: [...tokens],
    past: new Array<number>(sequences).fill(past),
    // A prompt's last row; of decode all.
    wanted: isPrefill ? [rows - 1] : Array.from({ length: sequences }, (_, i) => i),
  };
  const caches = new Map<string, Tensor<Float32Array>>();
  const view = ({ layer, heads, width }: BlockCache, which: "keys" | "values"): Tensor<Float32Array> => {
    const key = `${layer}.${which}`;
    let cache = caches.get(key);
    if (cache === undefined) {
      const dims = [sequences, heads, capacity, width];
      cache = { data: new Float32Array(sequences * heads * capacity * width), dims };
      caches.set(key, cache);
    }
    return cache;
  };
  return { session: forward.session, run: (schedule) => forward.run(schedule, fed, view) };
}
