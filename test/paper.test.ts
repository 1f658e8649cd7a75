import { expect, it } from "vitest";
import { PAPER_TABLE, fitPaperRow } from "./paper.js";

it("reproduces the paper's first speed table with three constants per row", () => {
  const fits = Object.values(PAPER_TABLE).map((row) => fitPaperRow(row));
  const mean = fits.reduce((sum, fit) => sum + fit.meanError, 0) / fits.length;
  expect(mean).toBeLessThanOrEqual(0.01);
  for (const { constants } of fits)
    for (const value of Object.values(constants)) expect(value).toBeGreaterThan(0);
});
