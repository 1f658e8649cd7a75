import { describe, expect, it } from "vitest";
import { exponential } from "./exponential.js";

describe("exponential()", () => {
  it("is e^x within a few units in the last place", () => {
    for (let x = 0; x > -700; x -= 0.313) {
      const wanted = Math.exp(x);
      expect(Math.abs(exponential(x) - wanted)).toBeLessThanOrEqual(1e-15 * wanted);
    }
    expect([0, -Infinity, -1e300, -708].map(exponential)).toEqual([1, 0, 0, 0]);
  });
});
