/** What must be true of the tensors of a source before a model reads them. */
import { InputError } from "../core/errors.js";
import type { ModelConfig } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { WeightSource } from "../storage/weight-source.js";

/** Tensors of a file, by name. */
export type TensorNames = Pick<WeightSource, "where" | "names" | "dims">;

/**
 * @param missing whether tensors may be missing from the file
 * @throws InputError when a tensor is missing, unknown or of another shape
 */
export function checkTensors(config: ModelConfig, file: TensorNames, missing: "allowed" | "refused"): void {
  const present = new Set(file.names);
  refuseUnknown(config, file);
  for (const info of listParameters(config))
    if (missing === "refused" || present.has(info.name)) checkDims(info, file);
}

/** @throws InputError when a tensor has no place in the model */
export function refuseUnknown(config: ModelConfig, { where, names }: Omit<TensorNames, "dims">): void {
  const wanted = new Set(listParameters(config).map(({ name }) => name));
  const extra = names.find((name) => !wanted.has(name));
  if (extra !== undefined)
    throw new InputError(`${where}: tensor "${extra}" has no place in arch ${config.arch}`);
}

/** @throws InputError when the tensor is missing or of another shape */
export function checkDims(
  { name, dims }: { readonly name: string; readonly dims: readonly number[] },
  file: Omit<TensorNames, "names">,
): void {
  const found = file.dims(name);
  if (found.join() !== dims.join())
    throw new InputError(
      `${file.where}: tensor "${name}" is [${found.join(", ")}], the config wants [${dims.join(", ")}]`,
    );
}

/** That a tensor has values that are not finite. */
export function notFinite(name: string, source: Pick<WeightSource, "where" | "whenNotFinite">): InputError {
  return new InputError(
    `${source.where}: tensor "${name}" has values that are not finite; ${source.whenNotFinite}`,
  );
}
