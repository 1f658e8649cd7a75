/** How a training went, step by step. */
import { mean, sum } from "../../core/statistics.js";
import type { StepEvent } from "../../train/event.js";

/** A step that was done. */
export interface CourseStep {
  readonly step: number;
  /** Of training steps up to this one's end; evaluation and saving do not count. */
  readonly seconds: number;
  readonly stepMs: number;
  readonly tokens: number;
  /** Nats per token. */
  readonly loss: number;
  readonly validationLoss: number | null;
}

/** Several steps as one. */
export interface Stretch {
  /** The last. */
  readonly step: number;
  /** Their mean. */
  readonly loss: number;
  readonly tokensPerSecond: number;
}

export function courseStep(before: CourseStep | undefined, event: StepEvent): CourseStep {
  const { step, loss, validationLoss, tokensPerSecond, timing } = event;
  const ownSeconds = timing.stepMs / 1e3;
  return {
    step,
    seconds: (before?.seconds ?? 0) + ownSeconds,
    stepMs: timing.stepMs,
    tokens: tokensPerSecond * ownSeconds,
    loss,
    validationLoss,
  };
}

/** The last so many steps up to one of them, or as many as there are. @param end how many steps of the course to count */
export function stretch(course: readonly CourseStep[], length: number, end = course.length): Stretch {
  const steps = course.slice(Math.max(0, end - length), end);
  return {
    step: steps.at(-1)?.step ?? 0,
    loss: mean(steps.map(({ loss }) => loss)),
    tokensPerSecond: (sum(steps.map(({ tokens }) => tokens)) / sum(steps.map(({ stepMs }) => stepMs))) * 1e3,
  };
}

/** How many steps had been done after so many seconds; at least one, if there is any. */
export function stepsAfter(course: readonly CourseStep[], seconds: number): number {
  // Sums of the same times are the same: no tolerance is needed for a course's own end.
  const done = course.filter((step) => step.seconds <= seconds).length;
  return Math.min(course.length, Math.max(1, done));
}
