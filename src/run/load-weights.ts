/** Weights of a checkpoint or a published folder into a rank, whatever number of ranks wrote them. */
import { InputError } from "../core/errors.js";
import { type ModelConfig, resolveModel } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { CheckpointReader } from "../storage/checkpoint-reader.js";
import type { WeightSource } from "../storage/weight-source.js";
import { nonFiniteWeight } from "./finite.js";
import type { Rank } from "./rank.js";

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
    checkDims(name, { where: source.where, found: source.dims(name), wanted: dims });
    source.readInto(name, out);
  };
  for (const { tensors, weights: all } of weights.buckets)
    for (const { info, offset, size } of tensors) read(info, all.subarray(offset, offset + size));
  for (const { info, data } of weights.buffers.values())
    if (!isAdapted || present.has(info.name)) read(info, data);
  const damaged = nonFiniteWeight(rank);
  if (damaged !== undefined)
    throw new InputError(
      `${source.where}: tensor "${damaged}" has values that are not finite; ${source.whenNotFinite}`,
    );
}

/** Tensors of a file, by name. */
export type TensorNames = Pick<WeightSource, "where" | "names" | "dims">;

/**
 * @param missing whether tensors may be missing from the file
 * @throws InputError when a tensor is missing, unknown or of another shape
 */
export function checkTensors(config: ModelConfig, file: TensorNames, missing: "allowed" | "refused"): void {
  const present = new Set(file.names);
  refuseUnknown(config, file);
  for (const { name, dims } of listParameters(config))
    if (missing === "refused" || present.has(name))
      checkDims(name, { where: file.where, found: file.dims(name), wanted: dims });
}

function refuseUnknown(config: ModelConfig, { where, names }: Omit<TensorNames, "dims">): void {
  const wanted = new Set(listParameters(config).map(({ name }) => name));
  const extra = names.find((name) => !wanted.has(name));
  if (extra !== undefined)
    throw new InputError(`${where}: tensor "${extra}" has no place in arch ${config.arch}`);
}

function checkDims(
  name: string,
  { where, found, wanted }: { where: string; found: readonly number[]; wanted: readonly number[] },
): void {
  if (found.join() !== wanted.join())
    throw new InputError(
      `${where}: tensor "${name}" is [${found.join(", ")}], the config wants [${wanted.join(", ")}]`,
    );
}
