/**
 * Architectures and policies side by side in one launch: runs interleaved, medians, predicted against measured. Every
 * rank measures; a step takes as long as its slowest rank.
 */
import type { Link } from "../comm/link.js";
import { nowMs } from "../core/clock.js";
import { InterruptedError } from "../core/errors.js";
import { median, quantile } from "../core/statistics.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { type JobContext, defineJob } from "../launch/job.js";
import type { Operator } from "../program/operator.js";
import { lowerBound } from "../schedule/bound.js";
import { whyExposed } from "../schedule/diagnose.js";
import { type CostTable, agreedCosts } from "../simulate/costs.js";
import { type MeasuredWork, measuredWork } from "../simulate/calibration.js";
import type { OperatorClass } from "../program/work.js";
import { simulate } from "../simulate/simulate.js";
import { combined } from "../timeline/summary.js";
import {
  type Timeline,
  type TimelineEvent,
  type TimelineSummary,
  eventOperator,
} from "../timeline/timeline.js";
import { type CompareMode, type Contestant, type ContestantOptions, Contestants } from "./contestants.js";
import { BASELINE, type LinkChoice, chooseLink } from "./link-choice.js";

/** An architecture under a policy: one row of a comparison. */
export interface CompareCase {
  readonly arch: string;
  readonly policy: string;
}

export interface CompareOptions extends ContestantOptions {
  readonly cases: readonly CompareCase[];
  readonly modes: readonly CompareMode[];
  readonly rounds: number;
  /** Chooses the link's rate so that communication takes this share of sequential top-2 in this mode (threads). */
  readonly communicationShare?: number;
  readonly shareMode: CompareMode;
  readonly latencyMs: number;
}

/** Times in ms, medians over rounds; compute, communication, exposed, late: means over ranks. */
export interface CompareRow extends CompareCase, TimelineSummary {
  readonly mode: CompareMode;
  /** Half the range between quartiles. */
  readonly spreadMs: number;
  /** Every round, in order. */
  readonly roundsMs: readonly number[];
  /** Time with a gradient bucket on the wire, of a whole step. */
  readonly reductionMs?: number;
  /** Step of each baseline over this step, where the baseline took part in this mode. */
  readonly speedUp: Readonly<Partial<Record<BaselineName, number>>>;
  readonly predictedMs: number;
  /** By which share the same schedule takes longer at the costs of the measured rounds than at those before them, which it was placed on. */
  readonly driftShare: number;
  /** Longest of compute, network and the chain of dependencies, on the slowest rank. */
  readonly lowerBoundMs: number;
  /** What keeping the timeline costs, as a share of the step. */
  readonly timelineShare: number;
  /** What the row's operators do and what they cost, as the ranks agreed; once for operators that are alike. */
  readonly costs: readonly MeasuredWork[];
  readonly note: string;
  /** Why communication stayed exposed although an overlap was asked for. */
  readonly warning?: string;
}

/** What a comparison found. */
export interface CompareResult {
  /** The link that was chosen, where a share of communication was asked for, and the share reached with it. */
  readonly link: Link | null;
  readonly communicationShare: number | null;
  readonly ranks: number;
  readonly rows: readonly CompareRow[];
  /** The typical round of each row, all ranks, and what the simulator expected. */
  readonly timelines: readonly { readonly measured: Timeline; readonly predicted: Timeline }[];
}

/** What rows are compared with: the first of its mode that fits. */
export const BASELINES = {
  "top-2 sequential": { arch: BASELINE.arch, policy: /^sequential$/ },
  "top-2 pipelined": { arch: BASELINE.arch, policy: /^pipelined/ },
  "shared sequential": { arch: "shared", policy: /^sequential$/ },
} as const;
/** What rows are compared with, where it took part. */
export type BaselineName = keyof typeof BASELINES;

const WARM_UP_ROUNDS = 3;

/** @throws InputError when a model does not fit the ranks; InterruptedError */
export const compareJob = defineJob(import.meta.url, "compareJob", run);

function run(context: JobContext, options: CompareOptions): CompareResult {
  const engine = createOrtEngine();
  try {
    return compare(new Contestants(context, options, engine), options);
  } finally {
    engine.dispose();
  }
}

function compare(contestants: Contestants, options: CompareOptions): CompareResult {
  const { context } = contestants;
  const { communicationShare: share, shareMode: mode, latencyMs } = options;
  const choice: LinkChoice | undefined =
    share === undefined ? undefined : chooseLink(contestants, { share, mode, latencyMs });
  const entered = options.modes.flatMap((mode) =>
    options.cases.map(({ arch, policy }) => contestants.enter(arch, policy, mode)),
  );
  const total = WARM_UP_ROUNDS + options.rounds;
  for (let round = 0; round < total; round++) {
    // Twice: kernels cost more beside transfers, which the first placing brings about.
    if (round === WARM_UP_ROUNDS - 1 || round === WARM_UP_ROUNDS)
      for (const contestant of entered) contestants.placeAgain(contestant);
    // There and back: what drifts while a round goes on meets every row alike.
    for (const contestant of round % 2 === 0 ? entered : entered.toReversed()) {
      const { arch, policy, mode } = contestant;
      if (context.interrupted()) throw new InterruptedError("Interrupted: a comparison has nothing to save");
      context.progress(`round ${round + 1}/${total}: ${arch} ${policy} ${mode}`);
      const step = contestants.measure(contestant);
      if (round > 0) contestants.learn(contestant, step);
      if (round >= WARM_UP_ROUNDS) contestant.runs.push(step);
    }
  }
  const recordMs = recordingCost(entered[0].session.program.operators[0]);
  const finished = entered.map((contestant) => rowOf(contestant, contestants, recordMs));
  const rows = finished.map(({ row }) => ({
    ...row,
    speedUp: speedUps(
      row,
      finished.map((f) => f.row),
    ),
  }));
  return {
    link: choice?.link ?? null,
    communicationShare: choice?.share ?? null,
    ranks: context.world.size,
    rows,
    timelines: finished.map((f) => f.timelines),
  };
}

function rowOf(
  c: Contestant,
  contestants: Contestants,
  recordMs: number,
): { row: Omit<CompareRow, "speedUp">; timelines: CompareResult["timelines"][number] } {
  const roundsMs = c.runs.map((run) => run.stepMs);
  const { schedule, session } = c;
  const { program } = session;
  const tables = contestants.costsOfRanks(c);
  const costs = contestants.ownCostsOfRanks(c);
  const predicted = simulate(program, schedule, { costs });
  const msAt = (table: CostTable): number =>
    simulate(program, schedule, {
      costs: costs.map(() => contestants.costsOf(table, program)),
      eventsOf: [],
    }).summary.stepMs;
  const stepMs = median(roundsMs);
  // The typical run is the picture, not the last.
  const { timeline } = c.runs.reduce((a, b) =>
    Math.abs(b.stepMs - stepMs) < Math.abs(a.stepMs - stepMs) ? b : a,
  );
  const row = {
    arch: c.arch,
    policy: c.policy,
    mode: c.mode,
    ...combined(
      c.runs.map((run) => run.timeline.summary),
      median,
    ),
    stepMs,
    spreadMs: (quantile(roundsMs, 0.75) - quantile(roundsMs, 0.25)) / 2,
    roundsMs,
    reductionMs: c.mode === "step" ? median(c.runs.map((run) => reductionTime(run.timeline))) : undefined,
    predictedMs: predicted.summary.stepMs,
    driftShare: msAt(contestants.costsOfRounds(c)) / msAt(c.costsBefore ?? agreedCosts(tables)) - 1,
    lowerBoundMs: Math.max(...costs.map((ofRank) => lowerBound(program, ofRank))),
    timelineShare: (program.operators.length * recordMs) / stepMs,
    costs: measuredWork(program, agreedCosts(tables)),
    note: schedule.note,
    warning: whyExposed({ program, schedule, measured: timeline, predicted })?.message,
  };
  return { row, timelines: { measured: timeline, predicted } };
}

const REDUCTION: readonly OperatorClass[] = ["reduce-scatter", "all-gather"];

/** Mean over ranks of the time with a gradient bucket on the wire. */
function reductionTime({ events, numRanks }: Timeline): number {
  const reached = new Array<number>(numRanks).fill(-Infinity);
  let sum = 0;
  for (const { rank, stream, class: of, startMs, endMs } of events.toSorted(
    (a, b) => a.startMs - b.startMs,
  )) {
    if (stream !== "network" || !REDUCTION.includes(of)) continue;
    sum += Math.max(0, endMs - Math.max(startMs, reached[rank]));
    reached[rank] = Math.max(reached[rank], endMs);
  }
  return sum / numRanks;
}

function speedUps(row: Omit<CompareRow, "speedUp">, all: readonly Omit<CompareRow, "speedUp">[]) {
  const found: Partial<Record<BaselineName, number>> = {};
  for (const [name, { arch, policy }] of Object.entries(BASELINES)) {
    const baseline = all.find(
      (other) => other.mode === row.mode && other.arch === arch && policy.test(other.policy),
    );
    if (baseline !== undefined) found[name as BaselineName] = baseline.stepMs / row.stepMs;
  }
  return found;
}

/**
 * Milliseconds that recording one operator takes: two looks at the clock and an event. The timeline is always on; this
 * times on its own what the executor does for it, so that its share of a step is known.
 */
function recordingCost(op: Operator): number {
  const record = (count: number): number => {
    const origin = nowMs();
    let events: TimelineEvent[] = [];
    for (let i = 0; i < count; i++) {
      // As many as a step has, then they are let go, as in training.
      if (i % 256 === 0) events = [];
      const [startMs, endMs] = [nowMs() - origin, nowMs() - origin];
      events.push({ rank: 0, ...eventOperator(op), startMs, endMs, bytes: 0 });
    }
    return (nowMs() - origin) / count;
  };
  record(4_000);
  return record(16_000);
}
