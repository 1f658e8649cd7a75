import { median } from "../../core/statistics.js";
import { combined } from "../../timeline/summary.js";
import type { TimelineSummary } from "../../timeline/timeline.js";
import type { JobContext } from "../../launch/job.js";
import type { StepEvent } from "../event.js";
import type { Observer, StepDone } from "./observer.js";
import { progressLine } from "./report.js";

/** Steps over which the rate shown is taken. */
const RECENT_STEPS = 32;
const NO_TIMING: TimelineSummary = {
  stepMs: NaN,
  computeMs: 0,
  communicationMs: 0,
  exposedMs: 0,
  lateMs: 0,
  overlapShare: 1,
};

/** What is typical of recent steps, the line that shows it, and an event for whoever listens. */
export class Progress implements Observer {
  readonly #recent: TimelineSummary[] = [];
  #last: StepDone | undefined;

  constructor(
    readonly of: {
      readonly label: string;
      readonly steps: number;
      readonly tokensPerStep: number;
      readonly context: Pick<JobContext<StepEvent>, "emit" | "progress">;
    },
  ) {}

  step(done: StepDone): void {
    this.#last = done;
    this.#recent.push(done.timing);
    if (this.#recent.length > RECENT_STEPS) this.#recent.shift();
    const { step, report, validationLoss, options, timing } = done;
    const { label, steps, tokensPerStep, context } = this.of;
    const { typical } = this;
    const loss = report.lmLoss;
    context.progress(progressLine({ label, step, steps, loss, validationLoss, tokensPerStep, typical }));
    context.emit({
      kind: "step",
      step,
      steps,
      loss,
      validationLoss: done.isEvaluated ? validationLoss : null,
      learningRate: options.learningRate,
      gradientNorm: report.gradientNorm,
      tokensPerSecond: (tokensPerStep / timing.stepMs) * 1e3,
      timing,
    });
  }

  /** Undefined before the first step. */
  get last(): StepDone | undefined {
    return this.#last;
  }

  /** Medians of recent steps: one step says little. */
  get typical(): TimelineSummary {
    return this.#recent.length === 0 ? NO_TIMING : combined(this.#recent, median);
  }
}
