/**
 * onnxruntime's tensors over memory of ours, made once: one is nothing but an address, a type and dims, so whatever has the same may have the same one.
 * Making and releasing them anew took longer than everything else around a run.
 */
import { addressNumber } from "../core/address.js";
import type { Tensor } from "../core/tensor.js";
import type { OrtApi } from "./ort-api.js";

/** Runs bind the same few in every step; where sizes vary without end, they are made anew now and then. */
const MOST_VALUES = 1 << 10;

interface Known {
  readonly dims: readonly number[];
  readonly isFloat: boolean;
  readonly value: bigint;
}

export class OrtValues {
  readonly #known = new Map<number, Known[]>();
  #count = 0;

  constructor(
    readonly api: OrtApi,
    readonly most = MOST_VALUES,
  ) {}

  /** Values made so far may be given up: called while no run has any. */
  makeRoom(): void {
    if (this.#count >= this.most) this.clear();
  }

  /** Good until `makeRoom` or `clear`. The memory must live as long as it is read or written through the value. */
  of({ data, dims }: Tensor): bigint {
    const address = addressNumber(data);
    const isFloat = data instanceof Float32Array;
    let here = this.#known.get(address);
    if (here === undefined) this.#known.set(address, (here = []));
    for (const known of here) if (known.isFloat === isFloat && areEqual(known.dims, dims)) return known.value;
    const value = this.api.createValue(BigInt(address), data.byteLength, dims, isFloat ? "f32" : "i32");
    here.push({ dims: [...dims], isFloat, value });
    this.#count++;
    return value;
  }

  clear(): void {
    for (const here of this.#known.values()) for (const { value } of here) this.api.releaseValue(value);
    this.#known.clear();
    this.#count = 0;
  }
}

function areEqual(a: readonly number[], b: readonly number[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
