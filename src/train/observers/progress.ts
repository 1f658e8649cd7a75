import { median } from "../../core/statistics.js";
import { combined } from "../../timeline/summary.js";
import type { TimelineSummary } from "../../timeline/timeline.js";
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

/** What is typical of recent steps, and the line that shows it. */
export class Progress implements Observer {
  readonly #recent: TimelineSummary[] = [];
  #last: StepDone | undefined;

  constructor(
    readonly of: {
      readonly label: string;
      readonly steps: number;
      readonly tokensPerStep: number;
      show(line: string): void;
    },
  ) {}

  step(done: StepDone): void {
    this.#last = done;
    this.#recent.push(done.timing);
    if (this.#recent.length > RATE_WINDOW) this.#recent.shift();
    const { step, report, validationLoss } = done;
    const { label, steps, tokensPerStep, show } = this.of;
    const { typical } = this;
    show(progressLine({ label, step, steps, loss: report.lmLoss, validationLoss, tokensPerStep, typical }));
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
