import { median } from "../../core/statistics.js";
import { combined } from "../../timeline/summary.js";
import type { TimelineSummary } from "../../timeline/timeline.js";
import type { JobContext } from "../../launch/job.js";
import type { StepEvent } from "../event.js";
import type { Observer, StepDone } from "./observer.js";

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
    const { steps, tokensPerStep, context } = this.of;
    context.progress(this.#line(done));
    context.emit({
      kind: "step",
      step,
      steps,
      loss: report.lmLoss,
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

  #line({ step, report, validationLoss }: StepDone): string {
    const { label, steps, tokensPerStep } = this.of;
    const { stepMs, communicationMs, overlapShare } = this.typical;
    return [
      `${label} ${bar(step / steps)} ${step}/${steps}`,
      `loss ${report.lmLoss.toFixed(3)}`,
      ...(validationLoss === null ? [] : [`validation ${validationLoss.toFixed(3)}`]),
      `${Math.round((tokensPerStep / stepMs) * 1e3)} tokens/s`,
      ...(communicationMs > 0 ? [`${(overlapShare * 100).toFixed(0)} % of communication hidden`] : []),
      `ETA ${formatDuration((steps - step) * stepMs)}`,
    ].join(" · ");
  }
}

function bar(share: number): string {
  const cells = 12;
  const full = Math.round(share * cells);
  return "█".repeat(full) + "░".repeat(cells - full);
}

function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1e3);
  if (!Number.isFinite(seconds)) return "?";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
