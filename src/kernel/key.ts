/** Structural identity of kernels: equal keys mean equal computation and equal names. Used to cache compiled kernels. */
import type { AttrValue, Expr, Kernel } from "./kernel.js";
import type { QuantisedMatrix } from "./quantise.js";

const keys = new WeakMap<Kernel, string>();

export function kernelKey(kernel: Kernel): string {
  let key = keys.get(kernel);
  if (key !== undefined) return key;
  const ids = new Map<Expr, number>();
  const lines: string[] = [];
  const visit = (expr: Expr): number => {
    const known = ids.get(expr);
    if (known !== undefined) return known;
    const operands = expr.inputs.map(visit);
    lines.push(nodeKey(expr, (_, i) => operands[i]));
    ids.set(expr, ids.size);
    return ids.size - 1;
  };
  for (const { name, expr, aliasOf } of kernel.outputs) lines.push(`${name}=${visit(expr)}<${aliasOf ?? ""}`);
  for (const { name, role } of kernel.inputs) lines.push(`${name}:${role}`);
  key = lines.join("\n");
  keys.set(kernel, key);
  return key;
}

/** One node's identity, given its operands' ids. */
export function nodeKey(expr: Expr, id: (operand: Expr, index: number) => number): string {
  const attrs = Object.entries(expr.attrs).map(([name, value]) => `${name}=${attrKey(value)}`);
  return `${expr.op}(${expr.inputs.map(id).join(",")})[${expr.dims.join(",")}]${expr.dtype}{${attrs.join(";")}}`;
}

const hashes = new WeakMap<Float32Array | Uint8Array, string>();

function attrKey(value: AttrValue): string {
  if (isQuantised(value)) {
    const { bits, dims, packed, scales } = value;
    return `${bits}:${dims.join()}:${hashOf(packed)}:${hashOf(scales)}`;
  }
  return value instanceof Float32Array ? hashOf(value) : JSON.stringify(value);
}

function isQuantised(value: AttrValue): value is QuantisedMatrix {
  return typeof value === "object" && "packed" in value;
}

function hashOf(value: Float32Array | Uint8Array): string {
  let hash = hashes.get(value);
  if (hash === undefined) hashes.set(value, (hash = fnv(value)));
  return hash;
}

/** FNV-1a over the bit patterns, in two lanes of 32 bits, and the length. */
function fnv(values: Float32Array | Uint8Array): string {
  const bits =
    values instanceof Uint8Array ? values : new Uint32Array(values.buffer, values.byteOffset, values.length);
  let [a, b] = [0x811c9dc5, 0x01000193];
  for (const word of bits) {
    a = Math.imul(a ^ word, 0x01000193);
    b = Math.imul(b ^ (word >>> 16) ^ (word << 16), 0x85ebca6b);
  }
  return `${values.length}:${a >>> 0}:${b >>> 0}`;
}
