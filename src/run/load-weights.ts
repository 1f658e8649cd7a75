/** Weights of a checkpoint into a rank, whatever number of ranks wrote it. */
import { InputError } from "../core/errors.js";
import { type ModelConfig, resolveModel } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { CheckpointReader } from "../storage/checkpoint-reader.js";
import type { Rank } from "./rank.js";

/** The model config a checkpoint was written with. */
export function checkpointConfig(reader: CheckpointReader): ModelConfig {
  return resolveModel(reader.json("config.json"), `${reader.directory}/config.json`);
}

/** @throws InputError when a tensor is missing, unknown or of another shape */
export function loadWeights({ config, weights }: Rank, reader: CheckpointReader): void {
  checkNames(config, reader);
  for (const { tensors, weights: all } of weights.buckets)
    for (const { info, offset, size } of tensors)
      reader.readInto("model", info.name, all.subarray(offset, offset + size));
  for (const { info, data } of weights.buffers.values()) reader.readInto("model", info.name, data);
}

function checkNames(config: ModelConfig, reader: CheckpointReader): void {
  const wanted = new Map(listParameters(config).map((p) => [p.name, p]));
  for (const [name, { dims }] of wanted) {
    const found = reader.dims("model", name);
    if (found.join() !== dims.join())
      throw new InputError(
        `${reader.directory}: "${name}" is [${found.join(", ")}], the config wants [${dims.join(", ")}]`,
      );
  }
  const extra = reader.names("model").find((name) => !wanted.has(name));
  if (extra !== undefined)
    throw new InputError(`${reader.directory}: "${extra}" has no place in arch ${config.arch}`);
}
