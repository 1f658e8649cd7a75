/** Weights of a checkpoint or a published folder into a rank, whatever number of ranks wrote them. */
import { type ModelConfig, resolveModel } from "../model/config.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { CheckpointReader } from "../storage/checkpoint-reader.js";
import type { WeightSource } from "../storage/weight-source.js";
import { nonFiniteWeight } from "./finite.js";
import type { Rank } from "./rank.js";
import { checkDims, notFinite, refuseUnknown } from "./weight-checks.js";

/** The model config a checkpoint was written with. */
export function checkpointConfig(reader: CheckpointReader): ModelConfig {
  return resolveModel(reader.json("config.json"), `${reader.directory}/config.json`);
}

/** Whether the model is the source's own, or one that is trained differently: with or without selection biases. */
export type Likeness = "same" | "adapted";

/**
 * Reads what the rank holds, one tensor at a time; experts of other ranks are not looked at.
 * @throws InputError when a tensor is missing, unknown, of another shape, or has values that are not finite
 */
export function loadWeights(rank: Rank, source: WeightSource, likeness: Likeness = "same"): void {
  const { config, weights } = rank;
  const isAdapted = likeness === "adapted";
  if (!isAdapted) refuseUnknown(config, source);
  const present = new Set(source.names);
  const read = ({ name, dims }: ParameterInfo, out: Float32Array): void => {
    checkDims({ name, dims }, source);
    source.readInto(name, out);
  };
  for (const { tensors, weights: all } of weights.buckets)
    for (const { info, offset, size } of tensors) read(info, all.subarray(offset, offset + size));
  for (const { info, data } of weights.buffers.values())
    if (!isAdapted || present.has(info.name)) read(info, data);
  const damaged = nonFiniteWeight(rank);
  if (damaged !== undefined) throw notFinite(damaged, source);
}
