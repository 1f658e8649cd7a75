import { expect, it } from "vitest";
import { median, quantile, trimmedMean } from "./statistics.js";

it("median() and quantile() need no order", () => {
  expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5]);
  const values = [5, 1, 4, 2, 3];
  expect([0, 0.25, 0.5, 0.75, 1].map((share) => quantile(values, share))).toEqual([1, 2, 3, 4, 5]);
});

it("trimmedMean() adds up, and is deaf to outliers", () => {
  expect(trimmedMean([7])).toBe(7);
  expect(trimmedMean([1, 2])).toBe(1.5);
  expect(trimmedMean([1, 9, 2])).toBe(2);
  // Half of the kernels run beside a transfer: a median would forget one half.
  const [alone, beside] = [Array.from({ length: 11 }, () => 10), Array.from({ length: 9 }, () => 14)];
  expect(trimmedMean([...alone, ...beside])).toBeCloseTo((9 * 10 + 7 * 14) / 16);
  expect(trimmedMean([...alone, ...beside, 1000])).toBeLessThan(12);
});
