/** The tensors of a converted model, made from those of its source one at a time. */
import { philox } from "../core/rng.js";
import { InputError } from "../core/errors.js";
import { numElements } from "../core/tensor.js";
import type { MadeTensor, Recipe } from "../model/convert/rules.js";
import type { FolderTensor } from "../storage/model-folder.js";
import type { WeightSource } from "../storage/weight-source.js";

/**
 * @param seed of noise and new gates: a function of it and the tensor's name
 * @returns tensors that are made when their first elements are asked for, and given up with their last
 */
export function convertedTensors(
  source: WeightSource,
  made: readonly MadeTensor[],
  seed: number,
): FolderTensor[] {
  return made.map(({ info: { name, dims }, recipe }) => {
    let data = new Float32Array(0);
    return {
      name,
      dtype: "F32",
      dims,
      readInto(out, from) {
        if (from === 0) make(recipe, (data = new Float32Array(numElements(dims))), { source, seed, name });
        out.set(data.subarray(from, from + out.length));
        if (from + out.length === data.length) data = new Float32Array(0);
      },
    };
  });
}

function make(
  recipe: Recipe,
  out: Float32Array,
  { source, seed, name }: { readonly source: WeightSource; readonly seed: number; readonly name: string },
): void {
  const stream = philox(seed, `convert ${name}`);
  if (recipe.make === "fill") return void out.fill(recipe.value);
  if (recipe.make === "normal") return stream.fillNormal(out, 0, recipe.deviation);
  const { from, factor, noise } = recipe;
  source.readInto(from[0], out);
  if (from.length > 1) {
    const sum = Float64Array.from(out);
    for (const other of from.slice(1)) {
      source.readInto(other, out);
      for (let i = 0; i < out.length; i++) sum[i] += out[i];
    }
    for (let i = 0; i < out.length; i++) out[i] = sum[i] / from.length;
  }
  let squares = 0;
  for (const value of out) squares += value * value;
  if (!Number.isFinite(squares))
    throw new InputError(
      `${source.where}: tensor "${from[0]}" has values that are not finite; the run that wrote it had diverged: take an earlier checkpoint`,
    );
  const added = noise > 0 ? new Float32Array(out.length) : undefined;
  if (added !== undefined) stream.fillNormal(added, 0, noise * Math.sqrt(squares / out.length));
  if (factor === 1 && added === undefined) return;
  for (let i = 0; i < out.length; i++) out[i] = factor * (out[i] + (added?.[i] ?? 0));
}
