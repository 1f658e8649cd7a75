import { median } from "../../core/statistics.js";
import { combined } from "../../timeline/summary.js";
import type { TimelineSummary } from "../../timeline/timeline.js";
import type { LineEvent } from "../../launch/job.js";
import type { StepEvent } from "../event.js";
import type { Observer, StepDone } from "./observer.js";
import { progressLine } from "./report.js";

/** Steps over which the rate shown is taken. */
const RATE_WINDOW = 32;
const NO_TIMING: TimelineSummary = {
  stepMs: NaN,
  computeMs: 0,
  communicationMs: 0,
  exposedMs: 0,
  lateMs: 0,
  overlapShare: 1,
};

/** What is typical of recent steps; tells of each step, as a line and as figures. */
export class Progress implements Observer {
  readonly #recent: TimelineSummary[] = [];
  #last: StepDone | undefined;

  constructor(
    readonly of: {
      readonly label: string;
      readonly steps: number;
      readonly tokensPerStep: number;
      readonly emit: (event: LineEvent | StepEvent) => void;
    },
  ) {}

  step(done: StepDone): void {
    this.#last = done;
    this.#recent.push(done.timing);
    if (this.#recent.length > RATE_WINDOW) this.#recent.shift();
    const { step, report, validationLoss, timing } = done;
    const { label, steps, tokensPerStep, emit } = this.of;
    const { typical } = this;
    const loss = report.lmLoss;
    emit({
      kind: "progress",
      line: progressLine({ label, step, steps, loss, validationLoss, tokensPerStep, typical }),
    });
    emit({
      kind: "step",
      step,
      steps,
      loss,
      validationLoss: done.isEvaluated ? validationLoss : null,
      learningRate: done.options.learningRate,
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
