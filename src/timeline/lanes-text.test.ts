import { expect, it } from "vitest";
import { lanesText } from "./lanes-text.js";
import type { StepLanes } from "./step-lanes.js";

const span = (start: number, end: number) => ({ start, end });
/** 34 cells of 10 ms where lines have 46 characters. */
const WIDTH = 46;

/** Computes, sends alone, computes. */
const APART: StepLanes = {
  compute: [span(0, 100), span(240, 340)],
  network: [span(100, 240)],
  waiting: [span(100, 240)],
  stepMs: 340,
};
/** Sends while it computes; ends in half a cell. */
const TOGETHER: StepLanes = {
  compute: [span(0, 200)],
  network: [span(15, 155)],
  waiting: [],
  stepMs: 200,
};

it("draws steps on one scale: transfers alone in the first, under compute in the second", () => {
  const lines = lanesText(
    [
      { title: "apart", lanes: APART },
      { title: "together", lanes: TOGETHER },
    ],
    WIDTH,
  );
  expect(lines).toEqual([
    "apart: 340 ms",
    "  compute│██████████              ██████████│",
    "  network│          ▀▀▀▀▀▀▀▀▀▀▀▀▀▀          │",
    "together: 200 ms",
    "  compute│████████████████████│",
    "  network│ ▝▀▀▀▀▀▀▀▀▀▀▀▀▀▘    │",
    "          ┴─────────┴─────────┴─────────┴────",
    "          0 ms      100       200       300",
  ]);
});

it("goes on in further bands where transfers are short for one: each has its axis, and says what is done", () => {
  // On one axis a transfer would take a half of a cell, where 1.2 are wanted.
  const transfers = Array.from({ length: 34 }, (_, i) => span(20 * i + 10, 20 * i + 20));
  const compute = Array.from({ length: 34 }, (_, i) => span(20 * i, 20 * i + 10));
  const lines = lanesText(
    [
      { title: "long", lanes: { compute, network: transfers, waiting: transfers, stepMs: 680 } },
      { title: "short", lanes: { ...TOGETHER, network: [span(10, 20)], stepMs: 200 } },
    ],
    WIDTH,
  );
  expect(lines).toEqual([
    "long: 680 ms",
    `  compute│${"█ ".repeat(17)}`.trimEnd(),
    `  network│${" ▀".repeat(17)}`,
    "short: 200 ms",
    "  compute│████████████████████│",
    `  network│ ▀${" ".repeat(18)}│`,
    "          ┴─────────┴─────────┴─────────┴────",
    "          0 ms      100       200       300",
    "",
    "long: 680 ms",
    `  compute│${"█ ".repeat(17)}│`,
    `  network│${" ▀".repeat(17)}│`,
    "short: done after 200 ms",
    "          ──────┴─────────┴─────────┴────────",
    "                400 ms    500       600",
  ]);
});

it("takes half a cell for busy where the lane was for half of it", () => {
  const compute = [span(2, 4.4), span(10, 12.6), span(20, 21), span(21.5, 23.1), span(339, 340)];
  const [, lane] = lanesText([{ title: "", lanes: { ...APART, compute } }], WIDTH);
  expect(lane).toBe(`  compute│ ▌▌${" ".repeat(31)}│`);
});

it("fits 80 columns whatever the step, and its title", () => {
  for (const stepMs of [0, 0.04, 7, 99.99, 1234, 600_000]) {
    const lanes = { compute: [span(0, stepMs)], network: [], waiting: [], stepMs };
    const lines = lanesText([{ title: "long ".repeat(30), lanes }]);
    for (const line of lines) expect([...line].length, line).toBeLessThanOrEqual(80);
    expect(lines.length).toBe(stepMs === 0 ? 3 : 5);
  }
});

it("draws nothing of nothing, and no control characters", () => {
  expect(lanesText([])).toEqual([]);
  const text = lanesText([{ title: "a", lanes: APART }]).join("");
  expect(text).not.toMatch(/[\u0000-\u001f\u007f]/);
});
