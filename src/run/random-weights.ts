/** Weights of a model that there is not: for measuring what does not depend on what they are. */
import { InputError } from "../core/errors.js";
import { fnv1a } from "../core/hash.js";
import { numElements } from "../core/tensor.js";
import type { ModelConfig } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { WeightSource } from "../storage/weight-source.js";

/**
 * Matrices evenly distributed with the deviation that a fresh model's have, zero biases, unit norms. An element is a function of seed, tensor and place; made
 * when it is asked for, in a fraction of the time that normal numbers would take.
 */
export function randomWeights(config: ModelConfig, seed: number): WeightSource {
  const infos = new Map(listParameters(config).map((info) => [info.name, info]));
  const find = (name: string): ParameterInfo => {
    const info = infos.get(name);
    if (info === undefined) throw new InputError(`The model has no tensor ${name}`);
    return info;
  };
  const where = "random weights";
  return {
    where,
    whenNotFinite: "initializer_range is too large",
    names: [...infos.keys()],
    dims: (name) => find(name).dims,
    readInto(name, out, from = 0) {
      const { dims, init } = find(name);
      if (from + out.length > numElements(dims))
        throw new InputError(`${name} of ${where} has ${numElements(dims)} elements`);
      if (init === "normal") fillEvenly(out, { from, key: fnv1a(name, seed), std: config.initializer_range });
      else out.fill(init === "ones" ? 1 : 0);
    },
    close: () => undefined,
  };
}

function fillEvenly(
  out: Float32Array,
  { from, key, std }: { readonly from: number; readonly key: number; readonly std: number },
): void {
  const unit = (std * Math.sqrt(3)) / 2 ** 31;
  for (let i = 0; i < out.length; i++) out[i] = mixed((from + i) ^ key) * unit;
}

/** A bijection of 32 bits that leaves no pattern of neighbours (the finaliser of MurmurHash3). */
function mixed(bits: number): number {
  let h = bits;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
