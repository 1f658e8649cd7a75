/** Weights in few bits. */
import { describe, expect, it } from "vitest";
import { philox } from "../core/rng.js";
import { blockSize, dequantise, emptyMatrix, quantise, quantiseRows } from "./quantise.js";

function normal(count: number): Float32Array {
  const data = new Float32Array(count);
  philox(3, "weights").fillNormal(data, 0, 0.02);
  return data;
}

/** The block of rows that are no multiple of a larger one. */
const SMALL = 32;

const relativeError = (wanted: Float32Array, found: Float32Array): number => {
  const squares = (x: Float32Array): number => x.reduce((sum, v) => sum + v * v, 0);
  return Math.sqrt(squares(wanted.map((v, i) => v - found[i])) / squares(wanted));
};

describe.each([4, 8] as const)("%i bits", (bits) => {
  const zero = 2 ** (bits - 1);

  it("large blocks where rows are whole ones", () => {
    const large = bits === 4 ? 128 : 64;
    expect([large, 3 * large, large + 32, 32, 50].map((columns) => blockSize(columns, bits))).toEqual([
      ...[large, large, 32, 32, 32],
    ]);
  });

  it("of normal weights: the relative root mean square error", () => {
    const w = normal(256 * 512);
    const errorOf = (columns: number): number => {
      const part = w.subarray(0, 256 * columns);
      return relativeError(part, dequantise(quantise(part, [256, columns], bits)));
    };
    const [large, small] = [errorOf(512), errorOf(480)];
    expect(small).toBeLessThan(bits === 4 ? 0.0835 : 0.0055);
    expect(small).toBeGreaterThan(bits === 4 ? 0.07 : 0.004);
    expect(large / small).toBeLessThan(bits === 4 ? 1.2 : 1.15);
    expect(large).toBeGreaterThan(small);
  });

  it("whole multiples of a scale are kept exactly, zeros are zero, and a row that does not fill its last block", () => {
    const columns = SMALL + 5;
    const w = Float32Array.from({ length: 2 * columns }, (_, at) => {
      const column = at % columns;
      if (column >= SMALL) return at < columns ? 0 : (column - SMALL - zero) * 2 ** -20;
      return (at < columns ? 1 : -1) * ((column % (2 * zero)) - zero);
    });
    const matrix = quantise(w, [2, columns], bits);
    expect(matrix.packed.length).toBe((2 * 2 * SMALL * bits) / 8);
    expect(dequantise(matrix).map((v) => v + 0)).toEqual(w.map((v) => v + 0));
    // Beyond the row's end, and of zeros, everything is the zero.
    const all = bits === 8 ? zero : zero | (zero << 4);
    expect(
      [...matrix.packed.subarray((SMALL * bits) / 8, (2 * SMALL * bits) / 8)].every((q) => q === all),
    ).toBe(true);
    expect(matrix.scales[1]).toBe(0);
  });

  it("of two equally near values the even one", () => {
    // What the others are keeps the scale at 1.
    const w = new Float32Array(SMALL).fill(7);
    w.set([-zero, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]);
    expect([...dequantise(quantise(w, [1, SMALL], bits)).subarray(0, 7)].map((v) => v + 0)).toEqual([
      -zero,
      0,
      2,
      2,
      0,
      -2,
      -2,
    ]);
  });

  it("rows in pieces give what the whole gives; tiny and huge weights do not overflow", () => {
    const w = normal(6 * 70);
    w.subarray(70, 140).fill(1e-45);
    w.subarray(140, 210).fill(-3.4e38);
    const whole = quantise(w, [6, 70], bits);
    const pieces = emptyMatrix([6, 70], bits);
    for (const [from, to] of [
      [4, 6],
      [0, 3],
      [3, 4],
    ])
      quantiseRows(pieces, w.subarray(from * 70, to * 70), from);
    expect(pieces).toEqual(whole);
    const back = dequantise(whole);
    expect(back.every(Number.isFinite)).toBe(true);
    expect(Math.abs(back[150] / -3.4e38 - 1)).toBeLessThan(0.01);
  });

  it.each([NaN, Infinity, -Infinity])("%d is refused, with its row", (bad) => {
    const w = normal(4 * 40);
    w[2 * 40 + 33] = bad;
    expect(() => quantise(w, [4, 40], bits)).toThrow("A weight in row 2 is not finite");
  });
});
