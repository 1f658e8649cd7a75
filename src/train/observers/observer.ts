import type { TimelineSummary } from "../../timeline/timeline.js";
import type { MicroBatch } from "../micro-batch.js";
import type { StepOptions, StepReport } from "../step.js";
import type { StepSessions } from "../step-sessions.js";

/** Where a run is after a step; the same on all ranks. */
export interface StepPlace {
  /** Counted from 1. */
  readonly step: number;
  /** The last of the run. */
  readonly isLast: boolean;
  /** Whether the user has asked to stop after it. */
  readonly isStopped: boolean;
  /** Whether an observer of rank 0 has asked for a checkpoint. */
  readonly isSaveWanted: boolean;
}

/** A step that was done. Plain facts; the rank still holds its gradients. */
export interface StepDone extends StepPlace {
  /** Whether the weights are updated; otherwise the next step does that on its way. */
  readonly isUpdated: boolean;
  /** Steps of the run that were not applied, this one included. */
  readonly skipped: number;
  /** Sequences of the training text that the run has taken. */
  readonly sequences: number;
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
  /** Asked before: must the weights be updated when it is told of this step? */
  readsWeights?(at: StepPlace): boolean;
  /** Asked after each step: is it time for a checkpoint? Rank 0's answer counts. */
  wantsSave?(): boolean;
  /** A checkpoint was written. */
  saved?(): void;
}
