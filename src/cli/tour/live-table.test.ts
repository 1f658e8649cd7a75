import { describe, expect, it } from "vitest";
import type { StepEvent } from "../../train/event.js";
import { courseStep, stepsAfter, stretch } from "./course.js";
import { LiveTable, lineInterval, tableHead, tableLine } from "./live-table.js";

const TITLES = ["top-2, sequential", "ScMoE, overlapped"];
const TOKENS = 2000;

function event(step: number, steps: number, stepMs: number): StepEvent {
  const timing = { stepMs, computeMs: 0, communicationMs: 0, exposedMs: 0, lateMs: 0, overlapShare: 1 };
  const tokensPerSecond = (TOKENS / stepMs) * 1e3;
  const validationLoss = step === steps ? 5 : null;
  return {
    ...{ kind: "step", step, steps, loss: 8 - step / 10, validationLoss, timing, tokensPerSecond },
    ...{ learningRate: 0, gradientNorm: 0 },
  };
}

/** All lines of a training. */
const linesOf = (table: LiveTable, model: number, steps: number, stepMs: number): string[] =>
  Array.from({ length: steps }, (_, i) => table.step(model, event(i + 1, steps, stepMs))).flat();

describe("the table", () => {
  it("has one empty column while the first trains; then its figures of the same step stand beside", () => {
    const table = new LiveTable(TITLES, 2);
    const head = [
      "              top-2, sequential        ScMoE, overlapped",
      "  step         loss    tokens/s         loss    tokens/s  (means of 2 steps)",
    ];
    expect(linesOf(table, 0, 5, 400)).toEqual([
      ...head,
      "     2        7.850       5,000",
      "     4        7.650       5,000",
      // The last step has its line, too: of what came since the line before.
      "     5        7.500       5,000",
    ]);
    expect(linesOf(table, 1, 5, 160)).toEqual([
      ...head,
      "     2        7.850       5,000        7.850      12,500",
      "     4        7.650       5,000        7.650      12,500",
      "     5        7.500       5,000        7.500      12,500",
    ]);
  });

  it("leaves a column empty where the other has not come so far", () => {
    const table = new LiveTable(TITLES, 1);
    linesOf(table, 0, 1, 400);
    table.step(1, event(1, 2, 100));
    expect(table.step(1, event(2, 2, 100))).toEqual([`     2${" ".repeat(25)}        7.800      20,000`]);
  });

  it("fits 80 columns, and holds nothing but letters and spaces", () => {
    const far = { step: 123_456, loss: 12.345, tokensPerSecond: 1_234_567.8 };
    const lines = [...tableHead(TITLES, 20), tableLine(123_456, [far, far])];
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
    expect(lines.join("")).toMatch(/^[ -~]*$/);
    expect(lines.at(-1)).toBe("123456       12.345   1,234,568       12.345   1,234,568");
    expect(tableHead(TITLES, 1).at(-1)).toBe("  step         loss    tokens/s         loss    tokens/s");
  });

  it.each([
    [260, 13, 20],
    [300, 13, 50],
    [30, 13, 5],
    [4, 13, 1],
    [1, 13, 1],
    [13, 13, 1],
    [5000, 13, 500],
  ])("%i steps in at most %i lines: one every %i", (steps, lines, interval) => {
    expect(lineInterval(steps, lines)).toBe(interval);
  });
});

describe("a course", () => {
  const course = [200, 100, 300].map((stepMs, i) => event(i + 1, 3, stepMs));
  const steps = course.reduce<ReturnType<typeof courseStep>[]>(
    (done, next) => [...done, courseStep(done.at(-1), next)],
    [],
  );

  it("adds up the seconds of its steps", () => {
    expect(steps.map(({ seconds }) => Number(seconds.toFixed(6)))).toEqual([0.2, 0.3, 0.6]);
    expect(steps.map(({ validationLoss }) => validationLoss)).toEqual([null, null, 5]);
  });

  it("has stretches: mean losses, and all tokens over all time", () => {
    const last = stretch(steps, 2);
    expect(last).toEqual({ step: 3, loss: expect.closeTo(7.75), tokensPerSecond: expect.closeTo(10_000) });
    expect(stretch(steps, 20, 2)).toMatchObject({ step: 2, loss: expect.closeTo(7.85) });
  });

  it("knows how far it was after so many seconds", () => {
    const ends = steps.map(({ seconds }) => seconds);
    expect([0, ends[0], ends[1] - 1e-9, ends[1], ends[2], 99].map((s) => stepsAfter(steps, s))).toEqual([
      1, 1, 1, 2, 3, 3,
    ]);
    expect(stepsAfter([], 1)).toBe(0);
  });
});
