import { expect, it } from "vitest";
import { type ChartedTraining, overlapChart } from "./overlap-chart.js";
import { ticks } from "./svg.js";

const INNER = 900 - 110 - 36;
const span = (start: number, end: number) => ({ start, end });
const course = (secondsPerStep: number): ChartedTraining["course"] =>
  Array.from({ length: 10 }, (_, i) => ({
    seconds: (i + 1) * secondsPerStep,
    loss: 7 - i / 10,
    validationLoss: i === 9 ? 6.25 : null,
  }));

const SLOW: ChartedTraining = {
  title: "top-2 <sequential>",
  lanes: { compute: [span(0, 100)], network: [span(100, 200)], waiting: [span(100, 200)], stepMs: 200 },
  course: course(2),
};
const FAST: ChartedTraining = {
  title: "ScMoE",
  lanes: { compute: [span(0, 100)], network: [span(20, 90)], waiting: [], stepMs: 100 },
  course: course(1),
};

/** Of all elements of a kind: these attributes as numbers. */
function numbersOf(svg: string, pattern: RegExp, ...names: string[]): number[][] {
  return [...svg.matchAll(pattern)].map(([element]) =>
    names.map((name) => Number(new RegExp(` ${name}="([^"]*)"`).exec(element)?.[1])),
  );
}

it("draws both steps on one scale, waits behind both lanes of a step", () => {
  const svg = overlapChart([SLOW, FAST]);
  const half = INNER / 2;
  const work = numbersOf(svg, /<rect class="work" x[^>]*>/g, "x", "width", "y");
  expect(work.map(([x, width]) => [x, width])).toEqual([
    [110, half],
    [110, half],
  ]);
  const net = numbersOf(svg, /<rect class="net" x[^>]*>/g, "x", "width", "y");
  expect(net.map(([x, width]) => [x, width])).toEqual([
    [110 + half, half],
    [185.4, 263.9],
  ]);
  expect(net[0][2]).toBeGreaterThan(work[0][2]);
  const [waits, ...others] = numbersOf(
    svg,
    /<rect fill="url\(#hatch\)" x[^>]*>/g,
    "x",
    "width",
    "y",
    "height",
  );
  expect(others).toEqual([]);
  expect(waits.slice(0, 2)).toEqual([110 + half, half]);
  // From the top of the compute lane to below the network's.
  expect(waits[2]).toBe(work[0][2]);
  expect(waits[2] + waits[3]).toBeGreaterThanOrEqual(net[0][2] + 16);
  expect(svg.indexOf('<rect fill="url(#hatch)" x')).toBeLessThan(svg.indexOf('<rect class="work" x'));
});

it("draws losses over time: the faster training ends further left, at the same height", () => {
  const svg = overlapChart([SLOW, FAST]);
  const ends = [0, 1].map((i) =>
    [
      ...(new RegExp(`<path class="raw m${i}" d="([^"]*)"`).exec(svg)?.[1] ?? "").matchAll(
        /[ML]([\d.]+) ([\d.]+)/g,
      ),
    ]
      .map(([, x, y]) => [Number(x), Number(y)])
      .at(-1),
  );
  expect(ends[0]?.[0]).toBe(900 - 36);
  expect(ends[1]?.[0]).toBe(110 + INNER / 2);
  expect(ends[0]?.[1]).toBe(ends[1]?.[1]);
  // One validation each.
  expect(svg.match(/<circle/g)).toHaveLength(2);
  expect(svg).toContain("10 steps, 20 s, validation 6.250");
  expect(svg).toContain("10 steps, 10 s, validation 6.250");
});

it("is XML, and holds no number that is none, also where there is nothing to draw", () => {
  const nothing = { title: "a & b", lanes: { compute: [], network: [], waiting: [], stepMs: 0 }, course: [] };
  for (const svg of [overlapChart([SLOW, FAST]), overlapChart([nothing, nothing]), overlapChart([])]) {
    expect(svg).not.toMatch(/NaN|Infinity|undefined|null|&(?!amp;|lt;|gt;|quot;)/);
    const open: string[] = [];
    for (const [, close, name, self] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g))
      if (close !== "") expect(open.pop()).toBe(name);
      else if (self === "") open.push(name);
    expect(open).toEqual([]);
  }
  expect(overlapChart([SLOW])).toContain("top-2 &lt;sequential&gt;");
});

it("ticks are round", () => {
  expect(ticks(0, 1, 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8, 1]);
  expect(ticks(4.46, 7.7, 5)).toEqual([5, 6, 7]);
  expect(ticks(0, 412, 6)).toEqual([0, 100, 200, 300, 400]);
  expect(ticks(0, 0.3, 3)).toEqual([0, 0.1, 0.2, 0.3]);
  expect(ticks(3, 3, 5)).toEqual([3]);
});
