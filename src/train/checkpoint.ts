/** A rank's part of a checkpoint: which tensors it writes, and how any number of ranks reads them back. */
import { gatherJson } from "../comm/collectives.js";
import { EnvironmentError } from "../core/errors.js";
import { modelToJson } from "../model/config.js";
import { loadWeights } from "../run/load-weights.js";
import type { BucketTensor } from "../run/weights.js";
import type { CheckpointReader } from "../storage/checkpoint-reader.js";
import {
  type WrittenShard,
  abandonCheckpoint,
  beginCheckpoint,
  commitCheckpoint,
  writeShard,
} from "../storage/checkpoint-writer.js";
import type { Disk } from "../storage/files.js";
import type { TensorToStore } from "../storage/safetensors.js";
import { type Moments, type Trainee, momentsOf } from "./trainee.js";

export interface TrainerState {
  /** Optimiser steps done. */
  readonly step: number;
  readonly seed: number;
  readonly [key: string]: unknown;
}

/**
 * Writes a checkpoint together: every rank its own files, rank 0 the rest. Until the last moment the directory has a
 * temporary name; a failure on any rank removes it on all, and the previous checkpoint stays.
 * @throws EnvironmentError on every rank, naming the rank that failed
 */
export function saveCheckpoint(
  rank: Trainee,
  directory: string,
  facts: { state: TrainerState; tokenizer?: string; keep: number; disk?: Disk },
): void {
  const { world } = rank;
  const isFirst = world.rank === 0;
  const attempt = <T>(label: string, action: () => T): T[] => {
    let outcome: { value?: T; error?: string };
    try {
      outcome = { value: action() };
    } catch (error) {
      outcome = { error: (error as Error).message };
    }
    const all = gatherJson(world, outcome, label);
    const failed = all.findIndex((o) => o.error !== undefined);
    if (failed >= 0) {
      if (isFirst) abandonCheckpoint(directory);
      throw new EnvironmentError(world.size > 1 ? `Rank ${failed}: ${all[failed].error}` : all[failed].error);
    }
    return all.map((o) => o.value as T);
  };
  attempt("checkpoint begin", () => (isFirst ? beginCheckpoint(directory) : undefined));
  const shards = attempt("checkpoint shards", (): WrittenShard[] => {
    const at = { rank: world.rank, ranks: world.size };
    const model = writeShard(directory, { kind: "model", ...at, tensors: modelTensors(rank) }, facts.disk);
    const optimizer = writeShard(
      directory,
      { kind: "optimizer", ...at, tensors: optimizerTensors(rank) },
      facts.disk,
    );
    return [model, optimizer];
  });
  attempt("checkpoint commit", () => {
    if (!isFirst) return;
    commitCheckpoint(
      directory,
      shards.flat(),
      { config: modelToJson(rank.config), trainerState: facts.state, tokenizer: facts.tokenizer },
      { keep: facts.keep, disk: facts.disk },
    );
  });
}

/** Replicated tensors are dealt to ranks in turn; experts are written by the first of their replicas. */
function modelTensors(rank: Trainee): TensorToStore[] {
  const { world, weights } = rank;
  const list: TensorToStore[] = [];
  let turn = 0;
  for (const bucket of weights.buckets)
    for (const tensor of bucket.tensors) {
      const mine = bucket.kind === "expert" ? rank.replicas.rank === 0 : turn++ % world.size === world.rank;
      if (mine)
        list.push(
          stored(
            tensor,
            tensor.info.name,
            bucket.weights.subarray(tensor.offset, tensor.offset + tensor.size),
          ),
        );
    }
  if (world.rank === 0)
    for (const { info, data } of weights.buffers.values())
      list.push({ name: info.name, dtype: "F32", dims: info.dims, data });
  return list;
}

function optimizerTensors(rank: Trainee): TensorToStore[] {
  const { world } = rank;
  const list: TensorToStore[] = [];
  let turn = 0;
  for (const bucket of rank.weights.buckets) {
    const moments = momentsOf(rank, bucket);
    const isWhole = moments.start === 0 && moments.end === bucket.size;
    for (const tensor of bucket.tensors) {
      const inTurn = turn++ % world.size === world.rank;
      if (isWhole && !(bucket.kind === "expert" ? rank.replicas.rank === 0 : inTurn)) continue;
      for (const moment of MOMENTS) list.push(...ownedPiece(moments, tensor, moment, isWhole));
    }
  }
  return list;
}

const MOMENTS = [
  { suffix: "exp_avg", of: (moments: Moments) => moments.expAvg },
  { suffix: "exp_avg_sq", of: (moments: Moments) => moments.expAvgSq },
] as const;

function ownedPiece(
  moments: Moments,
  tensor: BucketTensor,
  moment: (typeof MOMENTS)[number],
  isWhole: boolean,
): TensorToStore[] {
  const start = Math.max(tensor.offset, moments.start);
  const end = Math.min(tensor.offset + tensor.size, moments.end);
  if (start >= end) return [];
  const data = moment.of(moments).subarray(start - moments.start, end - moments.start);
  const name = `${tensor.info.name}.${moment.suffix}`;
  if (isWhole) return [stored(tensor, name, data)];
  return [
    {
      name: `${name}@${start - tensor.offset}-${end - tensor.offset}`,
      dtype: "F32",
      dims: [data.length],
      data,
    },
  ];
}

function stored(tensor: BucketTensor, name: string, data: Float32Array): TensorToStore {
  return { name, dtype: "F32", dims: tensor.info.dims, data };
}

/**
 * Reads this rank's weights and moments, whatever layout wrote them.
 * @throws InputError when a tensor is missing, unknown or of another shape
 */
export function loadCheckpoint(rank: Trainee, reader: CheckpointReader): void {
  loadWeights(rank, reader);
  for (const bucket of rank.weights.buckets) {
    const moments = momentsOf(rank, bucket);
    for (const tensor of bucket.tensors) {
      const start = Math.max(tensor.offset, moments.start);
      const end = Math.min(tensor.offset + tensor.size, moments.end);
      if (start >= end) continue;
      for (const { suffix, of } of MOMENTS) {
        const out = of(moments).subarray(start - moments.start, end - moments.start);
        reader.readPiecesInto("optimizer", `${tensor.info.name}.${suffix}`, out, start - tensor.offset);
      }
    }
  }
}
