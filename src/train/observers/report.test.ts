import { expect, it } from "vitest";
import { type LoadCounts, loadStatistics } from "../../run/moe/statistics.js";
import type { TimelineSummary } from "../../timeline/timeline.js";
import type { StepReport } from "../step.js";
import { boardScalars, stepRow } from "./report.js";

const counts: LoadCounts = { load: [3, 1], dropped: 0, zero: undefined, wanted: 4, nonFinite: 0 };

function row(zero: readonly (number | undefined)[]) {
  const loads = zero.map((of) => loadStatistics({ ...counts, zero: of, wanted: 4 + (of ?? 0) }));
  const report = { loss: 1, loads } as unknown as StepReport;
  const routings = zero.map((_, i) => `L${i}`);
  return stepRow(report, {} as TimelineSummary, { learningRate: 1, tokens: 1, skipped: 0, routings });
}

it("the share of zero experts is a figure of models that have them", () => {
  const found = row([4, 0]);
  expect(found.scalars.zero_expert_share).toBe(0.25);
  expect(found.layers.map((layer) => layer.zero_expert_share)).toEqual([0.5, 0]);
  expect(boardScalars(found)).toMatchObject({
    "moe/L0/zero_expert_share": 0.5,
    "moe/L1/zero_expert_share": 0,
  });
  const without = row([undefined]);
  expect(Object.keys(boardScalars(without)).filter((name) => name.includes("zero"))).toEqual([]);
  expect(without.layers[0]).not.toHaveProperty("zero_expert_share");
});
