/** One optimiser step of one rank: micro-batches forward and backward, reduction, clipping, update. */
import { sumScalars } from "../comm/collectives.js";
import type { Tensor } from "../core/tensor.js";
import type { ModelProgram } from "../model/language-model.js";
import {
  type TrainingOptions,
  type TrainingProgram,
  buildTrainingProgram,
} from "../model/training-program.js";
import { balanceLoss, zLoss } from "../run/moe/routing.js";
import { type LoadCounts, type LoadStatistics, countLoad, loadStatistics } from "../run/moe/statistics.js";
import type { LossScales } from "../program/kinds.js";
import type { Program } from "../program/program.js";
import { type ReductionBucket, weightGathering, withReduction } from "../program/reduction.js";
import type { Schedule } from "../program/schedule.js";
import { type GlobalStatistics, type RoutingValue, gateNoise } from "../run/actions/gate.js";
import { groupOf } from "../run/actions/reduction.js";
import type { RunResult } from "../run/execution.js";
import type { Allocation } from "../run/memory.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { type AdamWOptions, adamWStep, clipFactor, gradientNorm } from "./optimizer.js";
import type { Trainee } from "./trainee.js";

/** A session and the order it runs in. */
export interface Scheduled {
  readonly session: Session;
  readonly schedule: Schedule;
}

/** What a step runs, made ready once; another schedule makes another of these around the same sessions. */
export interface StepSessions {
  readonly model: TrainingProgram;
  /** Every micro-batch but the last; and the last, which also reduces gradients. */
  readonly accumulate: Scheduled;
  readonly last: Scheduled;
  /** ZeRO-1: gathers updated weights. */
  readonly gather?: Scheduled;
}

/** Makes a schedule for a program; called once per program (and again when costs drift). */
export type Scheduler = (program: Program) => Schedule;

export function openStep(rank: Trainee, options: TrainingOptions, scheduler: Scheduler): StepSessions {
  const model = buildTrainingProgram(rank.config, { ...options, ranks: rank.world.size });
  const keep = [model.output, ...model.routings.map(({ data }) => data.routing)];
  if (model.statistics !== undefined) keep.push(model.statistics);
  const scheduled = (program: Program, of: Scheduler): Scheduled => ({
    session: new Session(rank, program, { keep }),
    schedule: of(program),
  });
  const buckets = reductionBuckets(rank);
  const gathering = weightGathering(buckets);
  return {
    model,
    accumulate: scheduled(model.program, scheduler),
    last: scheduled(withReduction(model.program, buckets), scheduler),
    gather: gathering.operators.length === 0 ? undefined : scheduled(gathering, sequential),
  };
}

/** The same sessions in another order. */
export function reschedule(sessions: StepSessions, scheduler: Scheduler): StepSessions {
  const again = ({ session }: Scheduled): Scheduled => ({ session, schedule: scheduler(session.program) });
  return { ...sessions, accumulate: again(sessions.accumulate), last: again(sessions.last) };
}

/** What `withReduction` must know of a rank's gradient buckets. */
export function reductionBuckets(rank: Trainee): ReductionBucket[] {
  return rank.weights.buckets.map((bucket) => ({
    name: bucket.name,
    families: bucket.tensors.map((t) => t.info.family),
    bytes: bucket.size * 4,
    group: groupOf(bucket),
    ranks: rank[groupOf(bucket)].size,
    gather: !(rank.zero && bucket.kind === "replicated"),
  }));
}

/** This rank's rows of one micro-batch, row-major [batch · sequence]. */
export interface MicroBatch {
  readonly tokens: Int32Array;
  readonly labels: Int32Array;
  /** Index of the first token in the concatenated micro-batch of all ranks. */
  readonly firstToken: number;
}

export interface StepOptions {
  /** Counted from 0. */
  readonly step: number;
  readonly seed: number;
  readonly learningRate: number;
  readonly optimizer: AdamWOptions;
}

export interface StepReport {
  /** Means over all tokens of all ranks. */
  readonly lmLoss: number;
  readonly balanceLoss: number;
  readonly zLoss: number;
  readonly loss: number;
  readonly gradientNorm: number;
  /** Load per MoE routing over the tokens of all ranks, in the order of `model.routings`. */
  readonly loads: readonly LoadStatistics[];
  /** Timelines of the micro-batches, and of what gathers weights after the update. */
  readonly runs: readonly RunResult[];
}

/** @throws CommError when a peer does not answer or is lost */
export function trainStep(
  rank: Trainee,
  sessions: StepSessions,
  microBatches: readonly MicroBatch[],
  options: StepOptions,
): StepReport {
  const { micros, report } = forwardBackward(rank, sessions, microBatches, options);
  const norm = gradientNorm(rank);
  adamWStep(rank, options.optimizer, {
    step: options.step + 1,
    learningRate: options.learningRate,
    gradScale: clipFactor(norm, options.optimizer.clip_norm),
  });
  const runs = [...report.runs];
  if (sessions.gather !== undefined) {
    const run = sessions.gather.session.run(sessions.gather.schedule, new Map());
    run.release();
    runs.push(run);
  }
  updateSelectionBias(rank, sessions.model, micros);
  return { ...report, runs, gradientNorm: norm };
}

interface MicroResult {
  readonly lm: number;
  readonly balance: number;
  readonly z: number;
  readonly statistics?: GlobalStatistics;
}

/** Gradients of a step, summed over micro-batches and ranks (method 9.1), left in the rank's buckets. */
export function forwardBackward(
  rank: Trainee,
  sessions: StepSessions,
  microBatches: readonly MicroBatch[],
  options: Pick<StepOptions, "step" | "seed">,
): { micros: readonly MicroResult[]; report: Omit<StepReport, "gradientNorm"> } {
  const { config } = rank;
  rank.gradients.zero();
  const share = 1 / (rank.world.size * microBatches.length);
  const scales: LossScales = {
    balance: config.balance === "aux" ? config.router_aux_loss_coef * share : 0,
    z: config.router_z_loss_coef * share,
  };
  const results: MicroResult[] = [];
  const runs: RunResult[] = [];
  const routings: RoutingValue["routing"][][] = sessions.model.routings.map(() => []);
  microBatches.forEach((batch, micro) => {
    const { session, schedule } = micro === microBatches.length - 1 ? sessions.last : sessions.accumulate;
    const feeds = feedBatch(rank, sessions.model, batch, { ...options, micro, share, scales });
    const run = session.run(schedule, feeds.values);
    results.push(readLosses(rank, sessions.model, run, routings));
    run.release();
    feeds.release();
    runs.push(run);
  });
  const losses = [total(results, "lm"), total(results, "balance"), total(results, "z")].map((x) => x * share);
  const counts = routings.map(countLoad);
  const [lmLoss, balance, z, ...sums] = sumScalars(
    rank.world,
    [...losses, ...counts.flatMap(({ load, dropped, wanted }) => [...load, dropped, wanted])],
    "losses and loads",
  );
  const loss =
    lmLoss +
    (config.balance === "aux" ? config.router_aux_loss_coef * balance : 0) +
    config.router_z_loss_coef * z;
  return {
    micros: results,
    report: { lmLoss, balanceLoss: balance, zLoss: z, loss, loads: statisticsOf(counts, sums), runs },
  };
}

/** @param sums the counts of all ranks, one routing after another */
function statisticsOf(shape: readonly LoadCounts[], sums: readonly number[]): LoadStatistics[] {
  let at = 0;
  return shape.map(({ load: { length } }) => {
    const [load, [dropped, wanted]] = [sums.slice(at, at + length), sums.slice(at + length, at + length + 2)];
    at += length + 2;
    return loadStatistics({ load, dropped, wanted });
  });
}

function total(results: readonly MicroResult[], key: "lm" | "balance" | "z"): number {
  return results.reduce((sum, result) => sum + result[key], 0);
}

/**
 * Copies a micro-batch into engine memory, as far as a model asks for it; the seed of every loss is its share of the
 * step's mean.
 */
export function feedBatch(
  rank: Trainee,
  model: ModelProgram & Partial<TrainingProgram>,
  batch: MicroBatch,
  at: { step: number; seed: number; micro: number; share: number; scales: LossScales },
): { values: Map<number, unknown>; release: () => void } {
  const T = batch.tokens.length;
  const values = new Map<number, unknown>();
  const feed = (value: number | undefined, content: unknown): void => {
    if (value !== undefined) values.set(value, content);
  };
  const memory = [rank.memory.allocate(T), rank.memory.allocate(T), rank.memory.allocate(T)];
  const asInts = ({ f32 }: Allocation) => new Int32Array(f32.buffer, f32.byteOffset, T);
  asInts(memory[0]).set(batch.tokens);
  asInts(memory[1]).set(batch.labels);
  memory[2].f32.fill(at.share / T);
  feed(model.tokens, { data: asInts(memory[0]), dims: [T] } satisfies Tensor);
  feed(model.labels, { data: asInts(memory[1]), dims: [T] } satisfies Tensor);
  feed(model.seed, { data: memory[2].f32, dims: [T] } satisfies Tensor);
  feed(model.scales, at.scales);
  model.noise.forEach((value, index) => {
    const N = rank.config.num_experts;
    const allocation = rank.memory.allocate(T * N);
    memory.push(allocation);
    const noise = { data: allocation.f32, dims: [T, N] };
    gateNoise(noise, {
      seed: at.seed,
      step: at.step,
      microBatch: at.micro,
      index,
      firstToken: batch.firstToken,
    });
    feed(value, noise);
  });
  return { values, release: () => memory.forEach((allocation) => rank.memory.release(allocation)) };
}

function readLosses(
  rank: Trainee,
  model: TrainingProgram,
  run: RunResult,
  routings: RoutingValue["routing"][][],
): MicroResult {
  const losses = run.read<Tensor<Float32Array>>(model.output).data;
  let lm = 0;
  for (const value of losses) lm += value;
  const statistics =
    model.statistics === undefined ? undefined : run.read<GlobalStatistics>(model.statistics);
  const useGlobal = rank.config.balance_statistics === "global" && statistics !== undefined;
  let balance = 0;
  let z = 0;
  const lossShare = 1 / model.routings.length;
  model.routings.forEach(({ data }, index) => {
    const { routing } = run.read<RoutingValue>(data.routing);
    routings[index].push(routing);
    const { firstChoices, probabilitySums, numTokens } = routing;
    balance +=
      lossShare *
      (useGlobal
        ? balanceLoss(statistics.firstChoices[index], statistics.probabilitySums[index], statistics.numTokens)
        : balanceLoss(firstChoices, probabilitySums, numTokens));
    z += lossShare * zLoss(routing);
  });
  return { lm: lm / losses.length, balance, z, statistics };
}

/** Bias-based balancing without an auxiliary loss (method 4.4): the bias of overloaded experts falls, of idle ones rises. */
function updateSelectionBias(rank: Trainee, model: TrainingProgram, results: readonly MicroResult[]): void {
  if (rank.config.balance !== "bias") return;
  const rate = rank.config.balance_bias_rate;
  const loads = new Map<string, Float64Array>();
  model.routings.forEach(({ data: { shape } }, index) => {
    const name = shape.selectionBias as string;
    const load = loads.get(name) ?? new Float64Array(shape.numExperts);
    for (const { statistics } of results) statistics?.load[index].forEach((rows, e) => (load[e] += rows));
    loads.set(name, load);
  });
  for (const [name, load] of loads) {
    const bias = rank.weights.buffers.get(name)?.data;
    if (bias === undefined) continue;
    const mean = load.reduce((a, b) => a + b, 0) / load.length;
    load.forEach((rows, e) => (bias[e] += rate * Math.sign(mean - rows)));
  }
}
