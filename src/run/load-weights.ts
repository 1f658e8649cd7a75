/** Weights of a checkpoint into a rank, whatever number of ranks wrote it. */
import { InputError } from "../core/errors.js";
import { type ModelConfig, resolveModel } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { CheckpointReader } from "../storage/checkpoint-reader.js";
import { nonFiniteWeight } from "./finite.js";
import type { Rank } from "./rank.js";

/** The model config a checkpoint was written with. */
export function checkpointConfig(reader: CheckpointReader): ModelConfig {
  return resolveModel(reader.json("config.json"), `${reader.directory}/config.json`);
}

/** @throws InputError when a tensor is missing, unknown, of another shape, or has values that are not finite */
export function loadWeights(rank: Rank, reader: CheckpointReader): void {
  const { config, weights } = rank;
  const dims = (name: string) => reader.dims("model", name);
  checkTensors(config, { where: reader.directory, names: reader.names("model"), dims }, "refused");
  for (const { tensors, weights: all } of weights.buckets)
    for (const { info, offset, size } of tensors)
      reader.readInto("model", info.name, all.subarray(offset, offset + size));
  for (const { info, data } of weights.buffers.values()) reader.readInto("model", info.name, data);
  const damaged = nonFiniteWeight(rank);
  if (damaged !== undefined)
    throw new InputError(
      `${reader.directory}: tensor "${damaged}" has values that are not finite; the run that wrote it had diverged: take an earlier checkpoint`,
    );
}

/** Tensors of a file, by name. */
export interface TensorNames {
  /** The file, for messages. */
  readonly where: string;
  readonly names: readonly string[];
  dims(name: string): readonly number[];
}

/**
 * @param missing whether tensors may be missing from the file
 * @throws InputError when a tensor is missing, unknown or of another shape
 */
export function checkTensors(config: ModelConfig, file: TensorNames, missing: "allowed" | "refused"): void {
  const wanted = new Map(listParameters(config).map((p) => [p.name, p.dims]));
  const present = new Set(file.names);
  const extra = file.names.find((name) => !wanted.has(name));
  if (extra !== undefined)
    throw new InputError(`${file.where}: tensor "${extra}" has no place in arch ${config.arch}`);
  for (const [name, dims] of wanted) {
    if (missing === "allowed" && !present.has(name)) continue;
    const found = file.dims(name);
    if (found.join() !== dims.join())
      throw new InputError(
        `${file.where}: tensor "${name}" is [${found.join(", ")}], the config wants [${dims.join(", ")}]`,
      );
  }
}
