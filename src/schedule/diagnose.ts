/** Why a requested overlap did not happen: a cause with its figures, from what was predicted and what was measured. */
import type { Program } from "../program/program.js";
import type { Timeline, TimelineEvent } from "../timeline/timeline.js";
import { expertWindows } from "./placement.js";
import type { Schedule } from "../program/schedule.js";
import { workLabel } from "../program/work.js";

export type Cause =
  | "one rank"
  | "no window"
  | "nothing placed"
  | "network-bound"
  | "late peer"
  | "no progress"
  | "costs changed";

export interface Diagnosis {
  readonly cause: Cause;
  /** One line with figures and what to do. */
  readonly message: string;
}

export interface Diagnosed {
  readonly program: Program;
  readonly schedule: Schedule;
  /** All ranks, in one time. */
  readonly measured: Timeline;
  readonly predicted: Timeline;
}

/** Less waiting than this, as a share of all communication or of the step, is not worth a warning. */
const TOLERATED_SHARE = 0.1;
const TOLERATED_OF_STEP = 0.02;
/** Waiting longer than predicted by less than this share of the step is what predictions may be wrong by. */
const TOLERATED_CHANGE = 0.05;
/** A cause that explains this share of what was exposed is named. */
const MAIN_SHARE = 0.4;
/** If this share of the exposed time had been predicted, the schedule did what it could, and the network is the limit. */
const PREDICTED_SHARE = 0.6;

/** The main cause, or undefined when the overlap happened or none was asked for. */
export function whyExposed(step: Diagnosed): Diagnosis | undefined {
  const { schedule, measured } = step;
  if (schedule.policy === "sequential") return undefined;
  const { exposedMs, lateMs, communicationMs, stepMs } = measured.summary;
  const waitedMs = exposedMs + lateMs;
  const overlapFailed = waitedMs > TOLERATED_SHARE * communicationMs && waitedMs > TOLERATED_OF_STEP * stepMs;
  for (const rule of RULES) {
    const message = rule.always || overlapFailed ? rule.check(step) : undefined;
    if (message !== undefined) return { cause: rule.cause, message };
  }
  return undefined;
}

interface Rule {
  readonly cause: Cause;
  /** Whether the cause is named even where nothing was exposed. */
  readonly always?: boolean;
  /** The message, or undefined where the cause does not apply. */
  readonly check: (step: Diagnosed) => string | undefined;
}

const ms = (x: number): string => `${x.toFixed(1)} ms`;

/** In this order: first what makes any overlap impossible, then what spoilt one that was possible. The first that applies is reported. */
const RULES: readonly Rule[] = [
  {
    cause: "one rank",
    always: true,
    check: ({ schedule, measured }) =>
      measured.numRanks > 1
        ? undefined
        : `${schedule.policy} was asked for, but one rank sends nothing to anyone: there is nothing to overlap`,
  },
  {
    cause: "no window",
    check: ({ program, schedule, measured }) => {
      const isChunked = program.operators.some((op) => (op.chunk ?? 0) > 0);
      const windows = [...expertWindows(program).values()];
      if (isChunked || windows.length === 0 || windows.some((window) => window.length > 0)) return undefined;
      return `${schedule.policy} was asked for, but in this architecture no large operator may run beside dispatch and combine; ${ms(measured.summary.exposedMs)} of communication stay exposed. Use pipelined(n), or an architecture with a window (a shared expert, a shortcut)`;
    },
  },
  {
    cause: "nothing placed",
    check: ({ program, schedule, predicted }) => {
      const { overlapShare, communicationMs, exposedMs } = predicted.summary;
      const hasWindow = [...expertWindows(program).values()].some((window) => window.length > 0);
      if (!hasWindow || communicationMs === 0 || overlapShare > 0.05) return undefined;
      return `the schedule ${schedule.policy} places nothing beside the transfers: even as predicted, ${ms(exposedMs)} of ${ms(communicationMs)} are exposed. Choose another slot, or adaptive`;
    },
  },
  {
    cause: "network-bound",
    check: ({ measured, predicted }) => {
      const { exposedMs, lateMs, communicationMs, computeMs } = measured.summary;
      if (predicted.summary.exposedMs < PREDICTED_SHARE * (exposedMs + lateMs)) return undefined;
      return `the network is slower than the window: transfers take ${ms(communicationMs)}, the step computes ${ms(computeMs)}, and even as predicted ${ms(predicted.summary.exposedMs)} cannot be hidden. A wider window (a shortcut from further back), chunks (adaptive(2)), bf16 on the wire or a faster link would help`;
    },
  },
  {
    cause: "late peer",
    check: ({ measured }) => {
      const { lateMs, exposedMs } = measured.summary;
      const waitedMs = lateMs + exposedMs;
      if (lateMs < MAIN_SHARE * waitedMs) return undefined;
      const [rank, busiest, mean] = busiestRank(measured);
      const why =
        busiest > mean * 1.05
          ? `rank ${rank} computes longest (${ms(busiest)}, mean ${ms(mean)}): uneven expert load, or a slower or busier machine`
          : "all compute equally long, so something else delays now one, now another: other work on the machines?";
      return `ranks are out of step: of ${ms(waitedMs)} that a rank waits, ${ms(lateMs)} are because its peers come to the transfers later; ${why}`;
    },
  },
  {
    cause: "no progress",
    check: ({ measured }) => {
      const { stalled, exposed } = stalledTransfers(measured);
      if (stalled < MAIN_SHARE * exposed) return undefined;
      return `transfers did not progress while kernels ran: ${ms(stalled / measured.numRanks)} of ${ms(exposed / measured.numRanks)} waiting is as long as those transfers take alone. Leave the communicator a core (mpirun --bind-to none), or use a transport that progresses by itself`;
    },
  },
  {
    cause: "costs changed",
    check: ({ measured, predicted }) => {
      const { exposedMs, lateMs, stepMs } = measured.summary;
      const expectedMs = predicted.summary.exposedMs;
      if (exposedMs + lateMs - expectedMs < TOLERATED_CHANGE * stepMs) return undefined;
      return `the step did not go as predicted: ${ms(exposedMs)} exposed, ${ms(expectedMs)} predicted${largestChange(measured, predicted)}`;
    },
  },
];

function ofRank<T extends { readonly rank: number }>(list: readonly T[], rank: number): T[] {
  return list.filter((item) => item.rank === rank);
}

function overlap(a: { startMs: number; endMs: number }, b: { startMs: number; endMs: number }): number {
  return Math.max(0, Math.min(a.endMs, b.endMs) - Math.max(a.startMs, b.startMs));
}

function busiestRank({ events, numRanks }: Timeline): [rank: number, ms: number, mean: number] {
  const compute = new Float64Array(numRanks);
  for (const e of events) if (e.stream === "compute") compute[e.rank] += e.endMs - e.startMs;
  const busiest = compute.indexOf(Math.max(...compute));
  return [busiest, compute[busiest], compute.reduce((a, b) => a + b, 0) / numRanks];
}

/**
 * Exposed time of transfers that had kernels beside them and were then waited for as long as they need alone. What
 * they need alone is their bytes at the rate that the better transfers of the step have reached; a transfer that
 * queues behind another counts from when the link was free.
 */
function stalledTransfers({ events, exposed, numRanks }: Timeline): { stalled: number; exposed: number } {
  const spans: { rank: number; startMs: number; endMs: number; bytes: number }[] = [];
  for (let rank = 0; rank < numRanks; rank++) {
    let linkFree = -Infinity;
    const transfers = ofRank(events, rank).filter((e) => e.stream === "network" && (e.bytes ?? 0) > 0);
    for (const { startMs, endMs, bytes } of transfers.sort((a, b) => a.startMs - b.startMs)) {
      spans.push({
        rank,
        startMs: Math.max(startMs, Math.min(linkFree, endMs)),
        endMs,
        bytes: bytes as number,
      });
      linkFree = Math.max(linkFree, endMs);
    }
  }
  // Small messages take their latency, whatever the rate.
  const most = Math.max(0, ...spans.map((span) => span.bytes));
  const large = spans.filter((span) => span.bytes >= most / 4 && span.endMs > span.startMs);
  const rates = large.map((span) => span.bytes / (span.endMs - span.startMs)).sort((a, b) => a - b);
  const rate = rates[Math.floor(rates.length * 0.9)];
  let [stalled, total] = [0, 0];
  for (const wait of exposed) total += wait.endMs - wait.startMs;
  for (const span of large) {
    const alone = span.bytes / rate;
    const waited = ofRank(exposed, span.rank).reduce((sum, wait) => sum + overlap(wait, span), 0);
    const beside = span.endMs - span.startMs - waited;
    if (waited >= 0.8 * alone && beside >= 0.5 * alone) stalled += waited;
  }
  return { stalled, exposed: total };
}

/** "; dispatch took 12.0 ms in all, 8.0 ms were predicted", of what changed most. */
function largestChange(measured: Timeline, predicted: Timeline): string {
  const totals = (events: readonly TimelineEvent[], ranks: number): Map<string, number> => {
    const sums = new Map<string, number>();
    for (const e of events) {
      const label = workLabel({ pass: e.pass, work: e });
      sums.set(label, (sums.get(label) ?? 0) + (e.endMs - e.startMs) / ranks);
    }
    return sums;
  };
  const [is, was] = [
    totals(measured.events, measured.numRanks),
    totals(predicted.events, predicted.numRanks),
  ];
  let largest: string | undefined;
  const change = (name: string): number => Math.abs((is.get(name) as number) - (was.get(name) ?? 0));
  for (const name of is.keys()) if (largest === undefined || change(name) > change(largest)) largest = name;
  if (largest === undefined) return "";
  return `; ${largest} took ${ms(is.get(largest) as number)} in all, ${ms(was.get(largest) ?? 0)} were predicted`;
}
