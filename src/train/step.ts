/** One optimiser step of one rank: micro-batches forward and backward, reduction, clipping, update. */
import { sumScalars } from "../comm/collectives.js";
import type { Tensor } from "../core/tensor.js";
import { type TrainingProgram, hasBalanceLoss } from "../model/training-program.js";
import type { LossScales } from "../program/kinds.js";
import type { RoutingValue } from "../run/actions/gate.js";
import type { RunResult } from "../run/execution.js";
import { type ClassCounts, balanceLoss } from "../run/moe/balance-classes.js";
import { type Routing, zLoss } from "../run/moe/routing.js";
import {
  type BalanceStatistics,
  type LoadCounts,
  type LoadStatistics,
  countLoad,
  loadStatistics,
} from "../run/moe/statistics.js";
import {
  type StepRoutings,
  balanceCounts,
  balanceOf,
  stepStatistics,
  updateSelectionBias,
} from "./balance.js";
import { type MicroBatch, feedBatch } from "./micro-batch.js";
import { isFiniteStep, whereNonFinite } from "./non-finite.js";
import { type AdamWOptions, adamWStep, clipFactor, gradientNorm } from "./optimizer.js";
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

export interface StepReport {
  /** Means over all tokens of all ranks. */
  readonly lmLoss: number;
  /** Of a student: mean divergence from its teacher, and what the teacher's forward passes took on this rank, in ms. */
  readonly distillLoss?: number | undefined;
  readonly teacherMs?: number | undefined;
  /** Of the tokens that the loss counts; where it has no such term, of all tokens of the step. */
  readonly balanceLoss: number;
  readonly zLoss: number;
  readonly loss: number;
  readonly gradientNorm: number;
  /** Load per MoE routing over the tokens of all ranks, in the order of `model.routings`. */
  readonly loads: readonly LoadStatistics[];
  /** What was not finite, with its layer: then nothing has been applied, on any rank. */
  readonly nonFinite?: string | undefined;
  /** Timelines of all that ran, in the order of `runsOfStep`. */
  readonly runs: readonly RunResult[];
}

/** @throws CommError when a peer does not answer or is lost */
export function trainStep(
  rank: Trainee,
  sessions: StepSessions,
  microBatches: readonly MicroBatch[],
  options: StepOptions,
): StepReport {
  const report = forwardBackward(rank, sessions, microBatches, options);
  // Losses, loads and the norm are sums over ranks: all ranks see the same, and decide the same.
  const numbers = { ...report, gradientNorm: gradientNorm(rank) };
  const nonFinite = isFiniteStep(numbers) ? undefined : whereNonFinite(rank, sessions.model, numbers);
  if (nonFinite === undefined) {
    adamWStep(rank, options.optimizer, {
      step: options.step + 1 - (options.skipped ?? 0),
      learningRate: options.learningRate,
      gradScale: clipFactor(numbers.gradientNorm, options.optimizer.clip_norm),
    });
    updateSelectionBias(rank, sessions.model, report.loads);
  }
  const runs = [...report.runs];
  if (sessions.gather !== undefined) {
    const run = sessions.gather.session.run(sessions.gather.schedule, new Map());
    run.release();
    runs.push(run);
  }
  return { ...numbers, nonFinite, runs };
}

interface MicroResult {
  readonly lm: number;
  readonly divergence: number;
  readonly balance: number;
  readonly z: number;
}

/** Gradients of a step, summed over micro-batches and ranks (method 9.1), left in the rank's buckets. */
export function forwardBackward(
  rank: Trainee,
  sessions: StepSessions,
  microBatches: readonly MicroBatch[],
  options: Pick<StepOptions, "step" | "seed">,
): Omit<StepReport, "gradientNorm" | "nonFinite"> {
  const { config } = rank;
  rank.gradients.zero();
  const share = 1 / (rank.world.size * microBatches.length);
  const scales: LossScales = {
    balance: hasBalanceLoss(config) ? config.router_aux_loss_coef * share : 0,
    z: config.router_z_loss_coef * share,
  };
  const ahead =
    sessions.gates && gatesAhead(rank, sessions.gates, microBatches, { ...options, share, scales });
  const results: MicroResult[] = [];
  const runs: RunResult[] = [...(ahead?.runs ?? [])];
  const routings: Routing[][] = sessions.model.routings.map(() => []);
  let teacherMs = 0;
  microBatches.forEach((batch, micro) => {
    const { session, schedule } = micro === microBatches.length - 1 ? sessions.last : sessions.accumulate;
    const lesson = rank.teacher?.teach(batch);
    const at = { ...options, share, scales, statistics: ahead?.statistics, lesson };
    const feeds = feedBatch(rank, sessions.model, batch, at);
    const run = session.run(schedule, feeds.values);
    const found = routingsOf(sessions.model, run);
    found.forEach((routing, index) => routings[index].push(routing));
    results.push(readLosses(sessions.model, run, { routings: found, statistics: ahead?.statistics }));
    run.release();
    feeds.release();
    lesson?.release();
    teacherMs += lesson?.tookMs ?? 0;
    runs.push(run);
  });
  const losses = (["lm", "divergence", "balance", "z"] as const).map((of) => total(results, of) * share);
  const counts = routings.map(countLoad);
  const isWatched = routings.length > 0 && !hasBalanceLoss(config);
  const watched = isWatched ? balanceCounts(routings) : [];
  const [lmLoss, distillLoss, ofPieces, z, ...sums] = sumScalars(
    rank.world,
    [
      ...losses,
      ...watched,
      ...counts.flatMap((c) => [...c.load, c.dropped, c.zero ?? 0, c.wanted, c.nonFinite]),
    ],
    "losses and loads",
  );
  const balance = isWatched
    ? meanBalance(balanceOf(sums.splice(0, watched.length), routings), routings)
    : ofPieces;
  const { weight = 0 } = rank.teacher ?? {};
  const loss =
    (1 - weight) * lmLoss +
    weight * distillLoss +
    (hasBalanceLoss(config) ? config.router_aux_loss_coef * balance : 0) +
    config.router_z_loss_coef * z;
  const loads = statisticsOf(counts, sums);
  const taught = rank.teacher === undefined ? {} : { distillLoss, teacherMs };
  return { lmLoss, ...taught, balanceLoss: balance, zLoss: z, loss, loads, runs };
}

/** Runs every micro-batch as far as its gates: the balance loss of any of them counts the tokens of all. */
function gatesAhead(
  rank: Trainee,
  { model, session, schedule }: GateSession,
  microBatches: readonly MicroBatch[],
  at: Parameters<typeof feedBatch>[3],
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

function routingsOf({ routings }: GateSession["model"], run: RunResult): Routing[] {
  return routings.map(({ data }) => run.read<RoutingValue>(data.routing).routing);
}

/** @param sums the counts of all ranks, one routing after another */
function statisticsOf(shape: readonly LoadCounts[], sums: readonly number[]): LoadStatistics[] {
  let at = 0;
  return shape.map(({ load: { length }, zero: own }) => {
    const load = sums.slice(at, at + length);
    const [dropped, zero, wanted, nonFinite] = sums.slice(at + length, at + length + 4);
    at += length + 4;
    return loadStatistics({ load, dropped, zero: own === undefined ? own : zero, wanted, nonFinite });
  });
}

function total(results: readonly MicroResult[], key: keyof MicroResult): number {
  return results.reduce((sum, result) => sum + result[key], 0);
}

function readLosses(
  model: TrainingProgram,
  run: RunResult,
  of: { readonly routings: readonly Routing[]; readonly statistics: BalanceStatistics | undefined },
): MicroResult {
  const mean = (value: number): number => {
    const { data } = run.read<Tensor<Float32Array>>(value);
    let sum = 0;
    for (const loss of data) sum += loss;
    return sum / data.length;
  };
  const counted =
    of.statistics ??
    (model.statistics === undefined ? undefined : run.read<BalanceStatistics>(model.statistics));
  let balance = 0;
  let z = 0;
  const lossShare = 1 / of.routings.length;
  of.routings.forEach((routing, index) => {
    balance +=
      lossShare *
      (counted === undefined
        ? balanceLoss(routing.classes, routing)
        : balanceLoss(routing.classes, countsOf(counted, index)));
    z += lossShare * zLoss(routing);
  });
  const divergence = model.distilled === undefined ? 0 : mean(model.distilled.divergences);
  return { lm: mean(model.output), divergence, balance, z };
}

function countsOf({ counted, probabilitySums, numTokens }: BalanceStatistics, index: number): ClassCounts {
  return { counted: counted[index], probabilitySums: probabilitySums[index], numTokens };
}

function meanBalance(statistics: BalanceStatistics, routings: StepRoutings): number {
  const losses = routings.map(([{ classes }], i) => balanceLoss(classes, countsOf(statistics, i)));
  return losses.reduce((sum, loss) => sum + loss, 0) / routings.length;
}
