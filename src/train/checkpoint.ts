/** A rank's part of a checkpoint: which tensors it writes, and how any number of ranks reads them back. */
import { gatherJson } from "../comm/collectives.js";
import { EnvironmentError, NumericsError } from "../core/errors.js";
import { modelToJson } from "../model/config.js";
import { nonFiniteWeight } from "../run/finite.js";
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
import type { TensorToStore } from "../storage/safetensors.js";
import { checkpointWeights } from "../storage/weight-source.js";
import { type OwnedPiece, momentsOf, ownedPieces } from "./moments.js";
import type { Trainee } from "./trainee.js";

export interface TrainerState {
  /** Optimiser steps done. */
  readonly step: number;
  readonly seed: number;
  /** Sequences of the training text that the steps took, and their length. */
  readonly sequences?: number;
  readonly sequence_length?: number;
  /** Steps that were not applied, because something in them was not finite. */
  readonly skipped?: number;
}

/**
 * Writes a checkpoint together: every rank its own files, rank 0 the rest. Until the last moment the directory has a
 * temporary name; a failure on any rank removes it on all, and the previous checkpoint stays.
 * @throws EnvironmentError on every rank, naming the rank that failed
 */
export function saveCheckpoint(
  rank: Trainee,
  directory: string,
  facts: { state: TrainerState; tokenizer?: ReadonlyMap<string, string>; keep: number },
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
  attempt("checkpoint begin", () => {
    const damaged = nonFiniteWeight(rank);
    if (damaged !== undefined)
      throw new NumericsError(
        `${damaged} has values that are not finite; no checkpoint is written, so that rotation removes no good one`,
      );
    if (isFirst) beginCheckpoint(directory);
  });
  const shards = attempt("checkpoint shards", (): WrittenShard[] => {
    const at = { rank: world.rank, ranks: world.size };
    const model = writeShard(directory, { kind: "model", ...at, tensors: modelTensors(rank) });
    const optimizer = writeShard(directory, { kind: "optimizer", ...at, tensors: optimizerTensors(rank) });
    return [model, optimizer];
  });
  attempt("checkpoint commit", () => {
    if (!isFirst) return;
    commitCheckpoint(
      directory,
      shards.flat(),
      { config: modelToJson(rank.config), trainerState: facts.state, tokenizer: facts.tokenizer },
      { keep: facts.keep },
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
    const { start, end } = momentsOf(rank, bucket);
    const isWhole = start === 0 && end === bucket.size;
    for (const piece of ownedPieces(rank, bucket)) {
      const inTurn = turn++ % world.size === world.rank;
      if (isWhole && !(bucket.kind === "expert" ? rank.replicas.rank === 0 : inTurn)) continue;
      for (const [suffix, moment] of MOMENTS) {
        const name = `${piece.tensor.info.name}.${suffix}`;
        list.push(isWhole ? stored(piece.tensor, name, piece[moment]) : partOf(piece, name, piece[moment]));
      }
    }
  }
  return list;
}

const MOMENTS = [
  ["exp_avg", "expAvg"],
  ["exp_avg_sq", "expAvgSq"],
] as const;

/** A piece says by its name which elements of the tensor it has. */
function partOf({ tensor, start, end }: OwnedPiece, name: string, data: Float32Array): TensorToStore {
  const range = `${start - tensor.offset}-${end - tensor.offset}`;
  return { name: `${name}@${range}`, dtype: "F32", dims: [data.length], data };
}

function stored(tensor: BucketTensor, name: string, data: Float32Array): TensorToStore {
  return { name, dtype: "F32", dims: tensor.info.dims, data };
}

/**
 * Reads this rank's weights and moments, whatever layout wrote them.
 * @throws InputError when a tensor is missing, unknown or of another shape
 */
export function loadCheckpoint(rank: Trainee, reader: CheckpointReader): void {
  loadWeights(rank, checkpointWeights(reader));
  for (const bucket of rank.weights.buckets)
    for (const { tensor, start, ...moments } of ownedPieces(rank, bucket))
      for (const [suffix, moment] of MOMENTS)
        reader.readPiecesInto(
          "optimizer",
          `${tensor.info.name}.${suffix}`,
          moments[moment],
          start - tensor.offset,
        );
}
