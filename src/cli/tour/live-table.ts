/**
 * Both models' losses and rates side by side, a line every so many steps. They train one after the other: to take turns they
 * would have to be started anew each time, on fresh ranks that compile, measure and place their schedule again, and the steps
 * after that are slower than a training's. So while the second trains, the first's figures of the same step stand beside.
 */
import type { StepEvent } from "../../train/event.js";
import { type CourseStep, type Stretch, courseStep, stretch } from "./course.js";

const STEP_WIDTH = 6;
const LOSS_WIDTH = 10;
const RATE_WIDTH = 12;
const GAP = 3;

/** Steps from line to line: a round number, so that there are at most so many lines. */
export function lineInterval(steps: number, lines: number): number {
  const least = Math.max(1, steps / lines);
  for (let power = 1; ; power *= 10)
    for (const factor of [1, 2, 5]) if (factor * power >= least) return factor * power;
}

export function tableHead(titles: readonly string[], interval: number): string[] {
  const model = GAP + LOSS_WIDTH + RATE_WIDTH;
  const means = interval === 1 ? "" : `  (means of ${interval} steps)`;
  return [
    " ".repeat(STEP_WIDTH) + titles.map((title) => title.padStart(model)).join(""),
    "step".padStart(STEP_WIDTH) + titles.map(() => cell("loss", "tokens/s")).join("") + means,
  ];
}

/** @param columns of the models in their order; undefined where one has not come so far */
export function tableLine(step: number, columns: readonly (Stretch | undefined)[]): string {
  const cells = columns.map((column) =>
    column === undefined ? cell("", "") : cell(column.loss.toFixed(3), wholeNumber(column.tokensPerSecond)),
  );
  return (String(step).padStart(STEP_WIDTH) + cells.join("")).trimEnd();
}

function cell(loss: string, rate: string): string {
  return " ".repeat(GAP) + loss.padStart(LOSS_WIDTH) + rate.padStart(RATE_WIDTH);
}

/** 12,345 */
export function wholeNumber(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** Hears of steps, and knows when there is a line to say. */
export class LiveTable {
  /** Of each model, as far as it has come. */
  readonly courses: readonly CourseStep[][];

  constructor(
    readonly titles: readonly string[],
    readonly interval: number,
  ) {
    this.courses = titles.map(() => []);
  }

  /** Lines to say after a step. The head comes with a model's first one: what is said when a training begins stands above it. */
  step(model: number, event: StepEvent): string[] {
    const own = this.courses[model];
    own.push(courseStep(own.at(-1), event));
    const { titles, interval } = this;
    const { step, steps } = event;
    if (step % interval !== 0 && step !== steps) return [];
    const length = step % interval || interval;
    const columns = this.courses.map((course) =>
      course.length < own.length ? undefined : stretch(course, length, own.length),
    );
    return [...(step <= interval ? tableHead(titles, interval) : []), tableLine(step, columns)];
  }
}
