import { describe, expect, it } from "vitest";
import { findCut, selectionBuffers } from "./selection.js";

describe("findCut()", () => {
  const cutOf = (values: readonly number[], masses: readonly number[] | undefined, target: number) =>
    findCut(
      Float32Array.from(values),
      values.length,
      masses && Float64Array.from(masses),
      target,
      selectionBuffers(values.length),
    );

  it("counts, or adds masses", () => {
    expect(cutOf([1, 3, 2, 3, -5], undefined, 1)).toEqual({ value: 3, ties: 1 });
    expect(cutOf([1, 3, 2, 3, -5], undefined, 3)).toEqual({ value: 2, ties: 1 });
    expect(cutOf([1, 3, 2, 3, -5], [1, 2, 2, 2, 9], 4.5)).toEqual({ value: 2, ties: 1 });
    expect(cutOf([1, 3, 2, 3, -Infinity], undefined, 5)).toEqual({ value: -Infinity, ties: 1 });
  });

  it("takes all where the target is beyond the sum", () => {
    expect(cutOf([1, 2, 2], [0.1, 0.2, 0.3], 1)).toEqual({ value: 1, ties: 1 });
  });
});
