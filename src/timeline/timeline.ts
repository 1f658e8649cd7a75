import type { Operator } from "../program/operator.js";
import type { OperatorClass } from "../program/work.js";

/** What an event says of its operator. */
export interface EventOperator extends Pick<
  Operator,
  "stream" | "name" | "pass" | "layer" | "chunk" | "branch" | "cost"
> {
  /** Operator id in the program; the same operator has the same id on every rank. */
  readonly operator: number;
  readonly class: OperatorClass;
  readonly half?: "input" | "weight";
}

export function eventOperator(op: Operator): EventOperator {
  const { id, stream, name, pass, layer, chunk, branch, cost, work } = op;
  return { operator: id, stream, name, pass, layer, chunk, branch, cost, class: work.class, half: work.half };
}

/** One operator's run on one rank, measured or simulated. Times in milliseconds from the start of the step. */
export interface TimelineEvent extends EventOperator {
  readonly rank: number;
  /** Network and storage: when this rank issued it. A transfer starts when the last rank has. */
  readonly issuedMs?: number;
  readonly startMs: number;
  readonly endMs: number;
  /** Bytes sent to other ranks, network operators only. */
  readonly bytes?: number;
}

/** Interval in which a rank's compute stream stood still, waiting for the network or for ranks at its other end. */
export interface ExposedInterval {
  readonly rank: number;
  /** The operator that could not start. */
  readonly waitingFor: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** One step on all ranks; four readers draw, check or compare it. */
export interface Timeline {
  readonly kind: "measured" | "predicted";
  readonly numRanks: number;
  readonly events: readonly TimelineEvent[];
  readonly exposed: readonly ExposedInterval[];
  readonly summary: TimelineSummary;
}

/** Per step, mean over ranks (stepMs: the slowest rank; method 8.1, 8.2). */
export interface TimelineSummary {
  readonly stepMs: number;
  /** Sum of compute operators. */
  readonly computeMs: number;
  /** Time in which at least one transfer was in flight. */
  readonly communicationMs: number;
  /** Time the compute stream stood still for transfers, had every rank come to them at the same time. */
  readonly exposedMs: number;
  /** Further time it stood still because another rank came to the transfer later: imbalance, not communication. */
  readonly lateMs: number;
  /** 1 − exposed / communication; 1 when there is no communication. */
  readonly overlapShare: number;
}
