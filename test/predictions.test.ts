/** docs/predictions.md says what is predicted: `UPDATE_PREDICTIONS=1` writes its table anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { format } from "prettier";
import { describe, expect, it } from "vitest";
import { type PredictedFigure, predictedFigures } from "./predictions.js";

const PAGE = new URL("../docs/predictions.md", import.meta.url).pathname;
const TABLE = /(?<=<!-- table -->\n\n).*(?=\n\n<!-- end of table -->)/s;

const figures = predictedFigures();

/** In points where both are shares, else relative. */
function miss({ published, predicted, unit }: PredictedFigure): string {
  const [by, of] =
    unit === "%" ? [predicted - published, "points"] : [100 * (predicted / published - 1), "%"];
  return `${by < -0.5 ? "−" : by > 0.5 ? "+" : ""}${Math.abs(by).toFixed(0)} ${of}`;
}

function written(value: number, unit: PredictedFigure["unit"]): string {
  const digits = unit === "×" ? 2 : unit === "%" ? 1 : value < 1 ? 3 : 1;
  return `${value.toFixed(digits)} ${unit}`;
}

const table = [
  "| system | figure | published | predicted | off by |",
  "| --- | --- | --- | --- | --- |",
  ...figures.map((row) => {
    const { system, figure, published, predicted, unit } = row;
    return `| ${system} | ${figure} | ${written(published, unit)} | ${written(predicted, unit)} | ${miss(row)} |`;
  }),
].join("\n");

it("the page says what is predicted", async () => {
  const wanted = (await format(table, { parser: "markdown" })).trim();
  const page = readFileSync(PAGE, "utf8");
  if (process.env.UPDATE_PREDICTIONS !== undefined)
    writeFileSync(
      PAGE,
      page.replace(TABLE, () => wanted),
    );
  expect(readFileSync(PAGE, "utf8").match(TABLE)?.[0]).toBe(wanted);
});

/** Figures of a system, as predicted over published. */
function ratios(system: RegExp, figure: RegExp): number[] {
  const found = figures.filter((row) => system.test(row.system) && figure.test(row.figure));
  expect(found.length).toBeGreaterThan(0);
  return found.map(({ predicted, published }) => predicted / published);
}

describe("what holds", () => {
  it("language models on NVLink: ScMoE and the shared expert within 6 %, without a measured time", () => {
    const all = ratios(/A800 NVLink/, /(shared|scmoe-pos\d) over top2/);
    expect(all).toHaveLength(10);
    for (const ratio of all) expect(Math.abs(ratio - 1)).toBeLessThan(0.06);
  });

  it("the order of the architectures of the first table, both ways, and which of them are within 3 %", () => {
    for (const mode of [/^training/, /^inference/]) {
      const rows = figures.filter(({ system, figure }) => /A30/.test(system) && mode.test(figure));
      const byPublished = rows.toSorted((a, b) => a.published - b.published);
      expect(rows.toSorted((a, b) => a.predicted - b.predicted)).toEqual(byPublished);
    }
    for (const ratio of ratios(/A30/, /shared/)) expect(Math.abs(ratio - 1)).toBeLessThan(0.03);
  });

  it("that on two nodes all is hidden, and the step over the shared expert's", () => {
    expect(ratios(/2×8×A800/, /hidden/)).toEqual([1]);
    expect(Math.abs(ratios(/2×8×A800/, /over shared/)[0] - 1)).toBeLessThan(0.03);
  });

  it("LongCat-Flash's theory of decoding, from its own operator times, and a combine's time", () => {
    expect(Math.abs(ratios(/LongCat/, /the report's/)[0] - 1)).toBeLessThan(0.01);
    expect(Math.abs(ratios(/LongCat/, /combine/)[0] - 1)).toBeLessThan(0.07);
  });

  it("shares that are hidden, within 8 points where devices are in one domain of links", () => {
    for (const { published, predicted } of figures.filter(({ figure }) =>
      /NVLink domain|FarSkip|layers, c|prefill/.test(figure),
    ))
      expect(Math.abs(predicted - published)).toBeLessThan(8);
  });
});
