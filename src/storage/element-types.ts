/**
 * Elements of stored tensors as f32, and back: binary16, bfloat16 (the upper half of an f32), binary64, and e4m3 with NaN in
 * place of infinities (sign, 4 bits of exponent with bias 7, 3 of fraction; only 0x7f and 0xff are no numbers; at most 448).
 * Little-endian, as the format and this host are.
 */

/** A type of elements that can be read as f32. */
export interface ElementType {
  readonly itemBytes: number;
  /** Widens (F64: rounds) `bytes`, which start where such elements may, into all of `out`; without it they are f32 already. */
  readonly toF32?: (bytes: Uint8Array, out: Float32Array) => void;
}

const ELEMENT_TYPES: Readonly<Record<string, ElementType>> = {
  F32: { itemBytes: 4 },
  F16: {
    itemBytes: 2,
    toF32: (bytes, out) =>
      lookUp(
        (HALVES ??= tableOf(1 << 16, halfToNumber)),
        new Uint16Array(bytes.buffer, bytes.byteOffset),
        out,
      ),
  },
  BF16: {
    itemBytes: 2,
    toF32: (bytes, out) => {
      const from = new Uint16Array(bytes.buffer, bytes.byteOffset, out.length);
      const to = wordsOf(out);
      for (let i = 0; i < to.length; i++) to[i] = from[i] << 16;
    },
  },
  F64: {
    itemBytes: 8,
    toF32: (bytes, out) => out.set(new Float64Array(bytes.buffer, bytes.byteOffset, out.length)),
  },
  F8_E4M3: {
    itemBytes: 1,
    toF32: (bytes, out) => lookUp((EIGHTS ??= tableOf(1 << 8, e4m3ToNumber)), bytes, out),
  },
};

/** Names of the types that can be read as f32, as safetensors has them. */
export const READABLE_TYPES: readonly string[] = Object.keys(ELEMENT_TYPES);

/** Undefined for a type that cannot be read as f32. */
export function elementType(name: string): ElementType | undefined {
  return Object.hasOwn(ELEMENT_TYPES, name) ? ELEMENT_TYPES[name] : undefined;
}

/** Bit patterns of f32 by stored pattern: looking up is several times as fast as computing. */
let HALVES: Uint32Array | undefined;
let EIGHTS: Uint32Array | undefined;

function tableOf(size: number, value: (bits: number) => number): Uint32Array {
  return wordsOf(Float32Array.from({ length: size }, (_, bits) => value(bits)));
}

/** Bit patterns are copied, not numbers: what is no number keeps its bits. */
function lookUp(table: Uint32Array, from: Uint8Array | Uint16Array, out: Float32Array): void {
  const to = wordsOf(out);
  for (let i = 0; i < to.length; i++) to[i] = table[from[i]];
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function e4m3ToNumber(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >>> 3) & 15;
  const fraction = bits & 7;
  if (exponent === 15 && fraction === 7) return NaN;
  return exponent === 0 ? sign * fraction * 2 ** -9 : sign * (1 + fraction / 8) * 2 ** (exponent - 7);
}

/** f32 → bf16, to the nearest, of two to the even one; beyond the largest: infinity; what is no number stays none. */
export function toBfloat16(values: Float32Array, out = new Uint16Array(values.length)): Uint16Array {
  const words = wordsOf(values);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const isNumber = (word & 0x7fffffff) <= 0x7f800000;
    out[i] = isNumber ? (word + 0x7fff + ((word >>> 16) & 1)) >>> 16 : (word >>> 16) | 0x40;
  }
  return out;
}

function wordsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

export function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
