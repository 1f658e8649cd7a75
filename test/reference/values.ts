/** What reference rules are written with: plain f64 arrays, one index at a time. */
import { numElements } from "../../src/core/tensor.js";
import type { Expr } from "../../src/kernel/kernel.js";

export interface Values {
  readonly data: Float64Array;
  readonly dims: readonly number[];
}

/** @param dims concrete dims of the result */
export type ReferenceRule = (e: Expr, inputs: readonly Values[], dims: readonly number[]) => Float64Array;

export const strides = (dims: readonly number[]): number[] => {
  const out = new Array<number>(dims.length).fill(1);
  for (let i = dims.length - 2; i >= 0; i--) out[i] = out[i + 1] * dims[i + 1];
  return out;
};

/** A cache [B, G, C, w] with the rows [B, S, G·w] in the last places of each sequence, up to `last`. */
export function withRows(before: Values, own: Values, last: Values): Float64Array {
  const [B, G, C, w] = before.dims;
  const S = own.dims[1];
  const out = before.data.slice();
  for (let b = 0; b < B; b++)
    for (let s = 0; s < S; s++)
      for (let g = 0; g < G; g++) {
        const from = ((b * S + s) * G + g) * w;
        out.set(own.data.subarray(from, from + w), ((b * G + g) * C + last.data[b] - S + 1 + s) * w);
      }
  return out;
}

/** Calls `visit` with the flat index in `dims` and in an operand of dims `from` broadcast to them. */
export function broadcastIndex(dims: readonly number[], from: readonly number[]): (flat: number) => number {
  const outer = strides(dims);
  const inner = strides(from);
  const extra = dims.length - from.length;
  return (flat) => {
    let index = 0;
    for (let i = extra; i < dims.length; i++) {
      const at = Math.floor(flat / outer[i]) % dims[i];
      if (from[i - extra] !== 1) index += at * inner[i - extra];
    }
    return index;
  };
}

export const unary =
  (f: (x: number) => number): ReferenceRule =>
  (_, [x]) =>
    x.data.map(f);

export const binary =
  (f: (a: number, b: number) => number): ReferenceRule =>
  (_, [a, b], dims) => {
    const [ia, ib] = [broadcastIndex(dims, a.dims), broadcastIndex(dims, b.dims)];
    return Float64Array.from({ length: numElements(dims) }, (_unused, i) => f(a.data[ia(i)], b.data[ib(i)]));
  };

export const SQRT_2PI = Math.sqrt(2 * Math.PI);

/** erf to double precision: Taylor series near zero, continued fraction of erfc elsewhere. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 1; n < 100 && Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let n = 80; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction)));
}

export const cdf = (x: number): number => 0.5 * (1 + erf(x * Math.SQRT1_2));
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** Applies f to each row along the last axis. */
export function rows(x: Values, f: (row: Float64Array, r: number) => ArrayLike<number>): Float64Array {
  const width = x.dims[x.dims.length - 1];
  const out = new Float64Array(x.data.length);
  for (let r = 0; r * width < x.data.length; r++)
    out.set(f(x.data.subarray(r * width, (r + 1) * width), r), r * width);
  return out;
}

export function softmaxRow(row: Float64Array): Float64Array {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const e = row.map((x) => Math.exp(x - max));
  const total = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / total);
}

export function product(
  e: Expr,
  a: Values,
  b: Values,
  into: Float64Array,
  dims: readonly number[],
): Float64Array {
  const [ta, tb, alpha] = [e.attrs.transA as boolean, e.attrs.transB as boolean, e.attrs.alpha as number];
  const [a0, a1] = a.dims.slice(-2);
  const [b0, b1] = b.dims.slice(-2);
  const [m, n] = dims.slice(-2);
  const inner = ta ? a0 : a1;
  const batch = numElements(dims.slice(0, -2));
  for (let s = 0; s < batch; s++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < inner; l++)
          sum +=
            a.data[s * a0 * a1 + (ta ? l * a1 + i : i * a1 + l)] *
            b.data[s * b0 * b1 + (tb ? j * b1 + l : l * b1 + j)];
        into[(s * m + i) * n + j] += alpha * sum;
      }
  return into;
}

export function reduce(e: Expr, x: Values): { sums: Float64Array; count: number } {
  const axes = new Set(e.attrs.axes as readonly number[]);
  const kept = x.dims.map((dim, axis) => (axes.has(axis) ? 1 : dim));
  const at = broadcastIndex(x.dims, kept);
  const sums = new Float64Array(numElements(kept));
  x.data.forEach((value, i) => (sums[at(i)] += value));
  return { sums, count: x.data.length / sums.length };
}

/** Flat indices of the elements [start, start + length) of an axis. */
export function alongAxis(dims: readonly number[], axis: number, start: number, length: number): number[] {
  const inner = numElements(dims.slice(axis + 1));
  const outer = numElements(dims.slice(0, axis));
  const indices: number[] = [];
  for (let o = 0; o < outer; o++)
    for (let i = start * inner; i < (start + length) * inner; i++) indices.push(o * dims[axis] * inner + i);
  return indices;
}

export const place = (
  e: Expr,
  x: Values,
  dims: readonly number[],
  start: number,
  out: Float64Array,
): Float64Array => {
  const axis = e.attrs.axis as number;
  alongAxis(dims, axis, start, x.dims[axis]).forEach((to, i) => (out[to] = x.data[i]));
  return out;
};
