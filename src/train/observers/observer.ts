import type { TimelineSummary } from "../../timeline/timeline.js";
import type { MicroBatch, StepOptions, StepReport, StepSessions } from "../step.js";

/** A step that was done. Plain facts; the rank still holds its gradients and updated weights. */
export interface StepDone {
  /** Counted from 1. */
  readonly step: number;
  /** The last of the run. */
  readonly isLast: boolean;
  /** Whether the user has asked to stop after it. */
  readonly isStopped: boolean;
  readonly options: StepOptions;
  readonly batches: readonly MicroBatch[];
  readonly sessions: StepSessions;
  readonly report: StepReport;
  /** Sums over the micro-batches, and the length of the whole step, update included. */
  readonly timing: TimelineSummary;
  /** The latest, and whether it is of this step. */
  readonly validationLoss: number | null;
  readonly isEvaluated: boolean;
}

/**
 * Something that watches a run. All ranks have the same observers and call them in the same order, so that they may talk
 * to each other.
 */
export interface Observer {
  step?(done: StepDone): void;
  /** A checkpoint was written. */
  saved?(): void;
}
