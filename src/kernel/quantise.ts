/**
 * Weights in few bits: a block of neighbours along a row shares a scale, a value is (q − zero)·scale with q of 4 or 8 bits and the
 * zero in the middle of the range.
 */
import { InputError } from "../core/errors.js";

export type WeightBits = 4 | 8;

/** In which form a session holds the weights of matrix products. */
export type WeightForm = "f32" | "int8" | "int4";

/** Those that are quantised. */
export const QUANTISED_FORMS = ["int8", "int4"] as const satisfies readonly WeightForm[];
/** Weights of matrix products in 8 or 4 bits, in blocks that share a scale; all others in f32. */
export type QuantisedForm = (typeof QUANTISED_FORMS)[number];

export const FORM_BITS: Readonly<Record<WeightForm, WeightBits | undefined>> = {
  f32: undefined,
  int8: 8,
  int4: 4,
};

/** Of rows that larger blocks do not divide. */
const SMALLEST_BLOCK = 32;
/**
 * Neighbours that share a scale, where rows are whole blocks. Larger ones are fewer bytes and faster products: of 4 bits in blocks of
 * 128 by a tenth for one row and by two fifths for many, of 8 bits in blocks of 64 by a tenth and a sixth.
 */
const LARGEST_BLOCK = { 4: 128, 8: 64 } as const satisfies Record<WeightBits, number>;

/** Neighbours that share a scale in rows of some length. */
export function blockSize(columns: number, bits: WeightBits): number {
  const largest = LARGEST_BLOCK[bits];
  return columns % largest === 0 ? largest : SMALLEST_BLOCK;
}

/**
 * onnxruntime multiplies rows by two, a last odd one by itself; in some blocks the two sum in another order. (Measured, 1.30: of 4
 * bits in blocks of 64 and more, of 8 bits of 128 and more.)
 */
export function isPaired({ bits, block }: QuantisedMatrix): boolean {
  return block > (bits === 4 ? 32 : 64);
}

/** A matrix [N, K] as MatMulNBits of onnxruntime reads it. */
export interface QuantisedMatrix {
  readonly bits: WeightBits;
  /** Neighbours along a row that share a scale. */
  readonly block: number;
  readonly dims: readonly [rows: number, columns: number];
  /** q of [N, blocks, block], a byte each or, of 4 bits, two a byte, the first in the low half; beyond K the zero. */
  readonly packed: Uint8Array;
  /** [N, blocks] */
  readonly scales: Float32Array;
}

/** Bytes of the parts of a matrix. */
export function quantisedBytes(
  [rows, columns]: readonly number[],
  bits: WeightBits,
): { readonly packed: number; readonly scales: number } {
  const block = blockSize(columns, bits);
  const blocks = rows * Math.ceil(columns / block);
  return { packed: (blocks * block * bits) / 8, scales: blocks * 4 };
}

/** Where a matrix lies; default: memory of its own. */
export interface MatrixMemory {
  u8(length: number): Uint8Array;
  f32(length: number): Float32Array;
}

const OWN_MEMORY: MatrixMemory = {
  u8: (length) => new Uint8Array(length),
  f32: (length) => new Float32Array(length),
};

export function emptyMatrix(
  dims: readonly number[],
  bits: WeightBits,
  memory: MatrixMemory = OWN_MEMORY,
): QuantisedMatrix {
  const [rows, columns] = dims;
  const bytes = quantisedBytes(dims, bits);
  return {
    bits,
    block: blockSize(columns, bits),
    dims: [rows, columns],
    packed: memory.u8(bytes.packed),
    scales: memory.f32(bytes.scales / 4),
  };
}

/**
 * Whole rows of a matrix into its quantised form.
 * @param first row that `values` begin with
 * @throws InputError when a value is not finite
 */
export function quantiseRows(matrix: QuantisedMatrix, values: Float32Array, first: number): void {
  const { bits, block: size, dims, packed, scales } = matrix;
  const columns = dims[1];
  const blocks = Math.ceil(columns / size);
  const quantise = bits === 4 ? quantiseBlock4 : quantiseBlock8;
  const block = new Float32Array(size);
  for (let row = 0; row * columns < values.length; row++)
    for (let b = 0; b < blocks; b++) {
      const start = row * columns + b * size;
      const length = Math.min(size, columns - b * size);
      for (let i = 0; i < length; i++) block[i] = values[start + i];
      if (length < size) block.fill(0, length);
      const at = (first + row) * blocks + b;
      const scale = quantise(block, packed, (at * size * bits) / 8);
      if (!Number.isFinite(scale))
        throw new InputError(
          `A weight in row ${first + row} is not finite; wanted finite weights to quantise`,
        );
      scales[at] = scale;
    }
}

/** @throws InputError when a value is not finite */
export function quantise(values: Float32Array, dims: readonly number[], bits: WeightBits): QuantisedMatrix {
  const matrix = emptyMatrix(dims, bits);
  quantiseRows(matrix, values, 0);
  return matrix;
}

/** What a quantised matrix stands for, [N, K]. */
export function dequantise(matrix: QuantisedMatrix): Float32Array {
  const { bits, block, packed, scales } = matrix;
  const [rows, columns] = matrix.dims;
  const blocks = Math.ceil(columns / block);
  const zero = 2 ** (bits - 1);
  return Float32Array.from({ length: rows * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    const place = row * blocks * block + column;
    const q = bits === 8 ? packed[place] : (packed[place >> 1] >> ((place & 1) * 4)) & 15;
    return (q - zero) * scales[row * blocks + Math.floor(column / block)];
  });
}

/** Nearest integer, of two equally near ones the even one, for |x| < 2²². */
const MAGIC = 1.5 * 2 ** 52;
const round = (x: number): number => x + MAGIC - MAGIC;

/** The integer from −8 to 7 nearest to x. (Math.min and Math.max take longer: they know −0 from 0.) */
function nearest4(x: number): number {
  const q = x + MAGIC - MAGIC;
  return q > 7 ? 7 : q < -8 ? -8 : q;
}

/** The element of greatest magnitude, with its sign; NaN when there is one. */
function extreme(block: Float32Array): number {
  let [most, found] = [0, 0];
  for (let i = 0; i < block.length; i++) {
    const value = block[i];
    const magnitude = Math.abs(value);
    // Not a number is greater than nothing, and stays once it is found.
    if (magnitude > most || value !== value) [most, found] = [magnitude, value];
    if (found !== found) return NaN;
  }
  return found;
}

function quantiseBlock8(block: Float32Array, out: Uint8Array, at: number): number {
  const scale = Math.fround(extreme(block) / -128) + 0;
  // Of denormal weights the scale may be none.
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < block.length; i++)
    out[at + i] = Math.min(255, Math.max(0, round(block[i] * inverse) + 128));
  return scale;
}

/** Scales of a block of 4 bits, as parts of the one that puts its extreme element on −8; the search begins in the middle. */
const PARTS = [1.1, 1.05, 1, 0.95, 0.9, 0.85, 0.8, 0.75];
const MIDDLE = 3;

/** The scale of least squared error, as far as steps downhill lead. */
function quantiseBlock4(block: Float32Array, out: Uint8Array, at: number): number {
  const whole = extreme(block) / -8;
  if (!Number.isFinite(whole)) return NaN;
  const scaleOf = (part: number): number => Math.fround(whole * PARTS[part]);
  let best = MIDDLE;
  let least = squaredError4(block, scaleOf(best));
  for (const step of [1, -1]) {
    for (let part = best + step; part in PARTS; part += step) {
      const error = squaredError4(block, scaleOf(part));
      if (error >= least) break;
      [best, least] = [part, error];
    }
    if (best !== MIDDLE) break;
  }
  const scale = scaleOf(best) + 0;
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < block.length; i += 2) {
    const low = nearest4(block[i] * inverse) + 8;
    const high = nearest4(block[i + 1] * inverse) + 8;
    out[at + i / 2] = low | (high << 4);
  }
  return scale;
}

function squaredError4(block: Float32Array, scale: number): number {
  if (scale === 0) return 0;
  const inverse = 1 / scale;
  let sum = 0;
  for (let i = 0; i < block.length; i++) {
    const value = block[i];
    const error = value - nearest4(value * inverse) * scale;
    sum += error * error;
  }
  return sum;
}
