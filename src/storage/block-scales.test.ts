import { expect, it } from "vitest";
import { applyBlockScales, scaleGrid } from "./block-scales.js";

const CASES: [rows: number, columns: number, blockRows: number, blockColumns: number][] = [
  [576, 200, 128, 128],
  [5, 7, 2, 3],
  [4, 6, 2, 3],
  [1, 1, 128, 128],
  [3, 300, 1, 128],
];

it.each(CASES)(
  "[%i, %i] in blocks of %i × %i, whole and row by row",
  (rows, columns, blockRows, blockColumns) => {
    const [gridRows, gridColumns] = scaleGrid([rows, columns], [blockRows, blockColumns]);
    expect([gridRows, gridColumns]).toEqual([Math.ceil(rows / blockRows), Math.ceil(columns / blockColumns)]);
    const scales = Float32Array.from({ length: gridRows * gridColumns }, (_, i) => 0.1 + i / 3);
    const stored = Float32Array.from({ length: rows * columns }, (_, i) => ((i * 37) % 101) - 50);
    const wanted = stored.map((value, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      return value * scales[Math.floor(row / blockRows) * gridColumns + Math.floor(column / blockColumns)];
    });
    const of = { scales, blockRows, blockColumns, columns };
    const whole = stored.slice();
    applyBlockScales(whole, 0, of);
    expect(whole.findIndex((value, i) => value !== wanted[i])).toBe(-1);
    const parts = stored.slice();
    for (let row = 0, count = 1; row < rows; row += count++)
      applyBlockScales(parts.subarray(row * columns, (row + count) * columns), row, of);
    expect(parts.findIndex((value, i) => value !== wanted[i])).toBe(-1);
  },
);
