import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LATENCY_HEADER, latencyRows, percentiles } from "./latency.js";

describe("percentiles()", () => {
  const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => ((i * 7919) % n) + 1);

  it("are samples, in whatever order these come", () => {
    expect(percentiles(upTo(100))).toEqual({ count: 100, mean: 50.5, p50: 50, p90: 90, p99: 99, max: 100 });
    expect(percentiles(upTo(1000))).toMatchObject({ p50: 500, p90: 900, p99: 990 });
    expect(percentiles(upTo(10))).toMatchObject({ p50: 5, p90: 9, p99: 10, max: 10 });
    expect(percentiles([3])).toEqual({ count: 1, mean: 3, p50: 3, p90: 3, p99: 3, max: 3 });
    expect(percentiles([])).toBeUndefined();
  });

  it("are the least that so many do not exceed", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 300, size: "max" }),
        (samples) => {
          const found = percentiles(samples) as NonNullable<ReturnType<typeof percentiles>>;
          const within = (limit: number): number => samples.filter((s) => s <= limit).length * 100;
          for (const [percent, value] of [
            [50, found.p50],
            [90, found.p90],
            [99, found.p99],
          ]) {
            expect(samples).toContain(value);
            expect(within(value)).toBeGreaterThanOrEqual(percent * samples.length);
            expect(within(value - 1)).toBeLessThan(percent * samples.length);
          }
        },
      ),
      { seed: 5 },
    );
  });

  it("do not change the samples", () => {
    const samples = [3, 1, 2];
    percentiles(samples);
    expect(samples).toEqual([3, 1, 2]);
  });
});

describe("latencyRows()", () => {
  it("has a cell for each column", () => {
    const rows = latencyRows({
      "time to first token": [12.34, 0.0567, 1234.5, 5.678],
      "between tokens": [],
    });
    expect(rows).toEqual([
      ["time to first token", "4", "313", "5.68", "1235", "1235", "1235"],
      ["between tokens", "0", "–", "–", "–", "–", "–"],
    ]);
    expect(latencyRows({ fast: [0.0567, 0.9996, 9.996, 99.96] })[0].slice(2)).toEqual([
      "27.8",
      "1.00",
      "100",
      "100",
      "100",
    ]);
    for (const row of rows) expect(row).toHaveLength(LATENCY_HEADER.length);
  });
});
