/** One optimiser step of one rank: micro-batches forward and backward, reduction, clipping, update. */
import { assert } from "../core/errors.js";
import { hasBalanceLoss } from "../model/training-program.js";
import type { LossScales } from "../program/kinds.js";
import type { RunResult } from "../run/execution.js";
import type { Routing } from "../run/moe/routing.js";
import type { BalanceStatistics } from "../run/moe/statistics.js";
import { stepStatistics, updateSelectionBias } from "./balance.js";
import { type StepLosses, lossesOf, readLosses, routingsOf } from "./losses.js";
import { type MicroBatch, feedBatch } from "./micro-batch.js";
import { isFiniteStep, whereNonFinite } from "./non-finite.js";
import { type AdamWOptions, type Update, clipFactor, gradientNorm } from "./optimizer.js";
import type { GateSession, StepSessions } from "./step-sessions.js";
import type { Trainee } from "./trainee.js";

export interface StepOptions {
  /** Counted from 0. */
  readonly step: number;
  /** Steps before it that were not applied. Default none. */
  readonly skipped?: number;
  readonly seed: number;
  readonly learningRate: number;
  readonly optimizer: AdamWOptions;
}

export interface StepReport extends StepLosses {
  /** What a student's teacher took for its forward passes on this rank, in ms. */
  readonly teacherMs?: number | undefined;
  readonly gradientNorm: number;
  /** What was not finite, with its layer: then the step is not applied, on any rank. */
  readonly nonFinite?: string | undefined;
  /** All that ran, in order. */
  readonly runs: readonly RunResult[];
}

/** A step whose weights are not updated yet. */
export interface OpenStep {
  readonly report: StepReport;
  /** What the weights will be updated with: by the next step, on its way, or by `applyUpdate`; undefined when not at all. */
  readonly update: Update | undefined;
}

/** A whole step. @throws CommError when a peer does not answer or is lost */
export function trainStep(
  rank: Trainee,
  sessions: StepSessions,
  microBatches: readonly MicroBatch[],
  options: StepOptions,
): StepReport {
  const { report, update } = computeStep(rank, sessions, microBatches, options);
  return update === undefined ? report : { ...report, runs: [...report.runs, applyUpdate(sessions, update)] };
}

/**
 * A step as far as the norm of its gradients, which is the first to need all of them. Updating the weights, and gathering what
 * that needs, is left to the next step, which hides it behind its forward pass.
 * @param before what the step before left
 * @throws CommError when a peer does not answer or is lost
 */
export function computeStep(
  rank: Trainee,
  sessions: StepSessions,
  microBatches: readonly MicroBatch[],
  options: StepOptions,
  before?: Update,
): OpenStep {
  const found = forwardBackward(rank, sessions, microBatches, options, before);
  // Losses, loads and the norm are sums over ranks: all ranks see the same, and decide the same.
  const numbers = { ...found, gradientNorm: gradientNorm(rank) };
  const nonFinite = isFiniteStep(numbers) ? undefined : whereNonFinite(rank, sessions.model, numbers);
  const report = { ...numbers, nonFinite };
  if (nonFinite !== undefined) return { report, update: undefined };
  updateSelectionBias(rank, sessions.model, numbers.loads);
  const { step, skipped = 0, learningRate, optimizer } = options;
  const gradScale = clipFactor(numbers.gradientNorm, optimizer.clip_norm);
  return { report, update: { step: step + 1 - skipped, learningRate, gradScale, options: optimizer } };
}

/** Updates the weights with what a step left. */
export function applyUpdate({ updates }: StepSessions, update: Update): RunResult {
  const run = updates.session.run(updates.schedule, new Map([[updates.update, update]]));
  run.release();
  return run;
}

/** What a step finds before its norm is known. */
export type StepFound = Omit<StepReport, "gradientNorm" | "nonFinite">;

/**
 * Gradients of a step, summed over micro-batches and ranks (method 9.1), left in the rank's buckets: this rank's slice of each is
 * complete.
 * @param before what the step before left
 */
export function forwardBackward(
  rank: Trainee,
  sessions: StepSessions,
  microBatches: readonly MicroBatch[],
  options: Pick<StepOptions, "step" | "seed">,
  before?: Update,
): StepFound {
  const { config } = rank;
  const { gates, updating, accumulate, last } = sessions;
  assert(
    microBatches.length === sessions.microBatches,
    `a step of ${sessions.microBatches} micro-batches is not given ${microBatches.length}`,
  );
  const runs: RunResult[] = [];
  // What comes first takes the update along if it can; then gradients are cleared on the way.
  const first = before === undefined ? undefined : updating;
  if (first === undefined) {
    if (before !== undefined) runs.push(applyUpdate(sessions, before));
    rank.gradients.zero();
  }
  const share = 1 / (rank.world.size * microBatches.length);
  const scales: LossScales = {
    balance: hasBalanceLoss(config) ? config.router_aux_loss_coef * share : 0,
    z: config.router_z_loss_coef * share,
  };
  const at = { ...options, share, scales };
  const ahead = gates && gatesAhead(rank, gates, microBatches, at);
  runs.push(...(ahead?.runs ?? []));
  const tally = readLosses(sessions.model, ahead?.statistics);
  let teacherMs = 0;
  for (const [index, batches] of inRuns(microBatches, sessions.values.length).entries()) {
    const isLast = (index + 1) * sessions.values.length >= microBatches.length;
    const chosen = (index === 0 ? first : undefined) ?? (isLast ? last : (accumulate ?? last));
    const feeds = feedRun(rank, sessions, batches, { ...at, statistics: ahead?.statistics });
    if (chosen === first) feeds.values.set(first.update, before);
    const run = chosen.session.run(chosen.schedule, feeds.values);
    for (const ids of sessions.values.slice(0, batches.length)) tally.add(run, ids);
    run.release();
    feeds.release();
    teacherMs += feeds.teacherMs;
    runs.push(run);
  }
  const losses = lossesOf(rank, tally.results(), share);
  return { ...losses, ...(rank.teacher === undefined ? {} : { teacherMs }), runs };
}

/** Micro-batches as they are run together. */
function inRuns(microBatches: readonly MicroBatch[], size: number): MicroBatch[][] {
  return Array.from({ length: microBatches.length / size }, (_, i) =>
    microBatches.slice(i * size, (i + 1) * size),
  );
}

type FeedOptions = Omit<Parameters<typeof feedBatch>[3], "lesson">;

/** What a run's micro-batches are fed, a student's lessons included. */
function feedRun(
  rank: Trainee,
  { model, values: idsOf }: StepSessions,
  batches: readonly MicroBatch[],
  at: FeedOptions,
): { readonly values: Map<number, unknown>; readonly release: () => void; readonly teacherMs: number } {
  const values = new Map<number, unknown>();
  const releases: (() => void)[] = [];
  let teacherMs = 0;
  batches.forEach((batch, micro) => {
    const lesson = rank.teacher?.teach(batch);
    const feeds = feedBatch(rank, model, batch, { ...at, lesson });
    for (const [value, content] of feeds.values) values.set(idsOf[micro][value], content);
    releases.push(feeds.release, () => lesson?.release());
    teacherMs += lesson?.tookMs ?? 0;
  });
  return { values, release: () => releases.forEach((release) => release()), teacherMs };
}

/** Runs every micro-batch as far as its gates: the balance loss of any of them counts the tokens of all. */
function gatesAhead(
  rank: Trainee,
  { model, session, schedule }: GateSession,
  microBatches: readonly MicroBatch[],
  at: FeedOptions,
): { readonly statistics: BalanceStatistics; readonly runs: readonly RunResult[] } {
  const routings: Routing[][] = model.routings.map(() => []);
  const runs = microBatches.map((batch) => {
    const feeds = feedBatch(rank, model, batch, at);
    const run = session.run(schedule, feeds.values);
    routingsOf(model, run).forEach((routing, index) => routings[index].push(routing));
    run.release();
    feeds.release();
    return run;
  });
  return { statistics: stepStatistics(rank, routings), runs };
}
