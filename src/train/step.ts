/** One optimiser step of one rank: micro-batches forward and backward, reduction, clipping, update. */
import { sumScalars } from "../comm/collectives.js";
import type { Tensor } from "../core/tensor.js";
import { buildProgram } from "../model/wiring.js";
import type { ModelProgram, ProgramOptions } from "../model/wiring.js";
import { balanceLoss, zLoss } from "../moe/routing.js";
import { type LoadCounts, type LoadStatistics, countLoad, loadStatistics } from "../moe/statistics.js";
import { withReduction } from "../program/reduction.js";
import type { Program } from "../program/program.js";
import { actionTable } from "../run/actions/index.js";
import { type GlobalStatistics, type RoutingValue, gateNoise } from "../run/actions/gate.js";
import { reductionGroup } from "../run/actions/reduction.js";
import { type Plan, type RunResult, execute } from "../run/executor.js";
import type { Rank } from "../run/rank.js";
import type { Schedule } from "../program/schedule.js";
import { type AdamWOptions, adamWStep, clipFactor, gradientNorm } from "./optimizer.js";

/** Makes a schedule for a program; called once per program (and again when costs drift). */
export type Scheduler = (program: Program) => Schedule;

export interface StepPlans {
  readonly model: ModelProgram;
  /** Every micro-batch but the last; and the last, which also reduces gradients. */
  readonly accumulate: Plan;
  readonly last: Plan;
}

export function planStep(rank: Rank, options: ProgramOptions, scheduler: Scheduler): StepPlans {
  const model = buildProgram(rank.config, options);
  const keep = new Set([model.output, ...model.routings.map((route) => route.routing)]);
  if (model.statistics !== undefined) keep.add(model.statistics);
  const actions = actionTable(options.sequence);
  const plan = (program: Program): Plan => ({ program, schedule: scheduler(program), actions, keep });
  return {
    model,
    accumulate: plan(model.program),
    last: plan(withReduction(model.program, reductionBuckets(rank))),
  };
}

/** What `withReduction` must know of a rank's gradient buckets. */
export function reductionBuckets(rank: Rank): Parameters<typeof withReduction>[1] {
  return rank.parameters.buckets.map((bucket) => ({
    name: bucket.name,
    tensors: bucket.tensors.map((t) => t.info.name),
    bytes: bucket.size * 4,
    ranks: reductionGroup(bucket, rank).size,
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
  /** Timelines of the micro-batches. */
  readonly runs: readonly RunResult[];
}

/** @throws CommError when a peer is late or lost */
export function trainStep(
  rank: Rank,
  plans: StepPlans,
  microBatches: readonly MicroBatch[],
  options: StepOptions,
): StepReport {
  const { gradients, report } = forwardBackward(rank, plans, microBatches, options);
  const norm = gradientNorm(rank);
  adamWStep(rank, options.optimizer, {
    step: options.step + 1,
    learningRate: options.learningRate,
    gradScale: clipFactor(norm, options.optimizer.clipNorm),
  });
  updateSelectionBias(rank, plans.model, gradients);
  return { ...report, gradientNorm: norm };
}

interface MicroResult {
  readonly lm: number;
  readonly balance: number;
  readonly z: number;
  readonly statistics?: GlobalStatistics;
}

/** Gradients of a step, summed over micro-batches and ranks, left in the parameter store. */
export function forwardBackward(
  rank: Rank,
  plans: StepPlans,
  microBatches: readonly MicroBatch[],
  options: Pick<StepOptions, "step" | "seed">,
): { gradients: readonly MicroResult[]; report: Omit<StepReport, "gradientNorm"> } {
  const { config } = rank;
  rank.parameters.zeroGradients();
  const share = 1 / (rank.world.size * microBatches.length);
  const scales = {
    balance: config.balance === "aux" ? config.router_aux_loss_coef * share : 0,
    z: config.router_z_loss_coef * share,
  };
  const results: MicroResult[] = [];
  const runs: RunResult[] = [];
  const routings: RoutingValue["routing"][][] = plans.model.routings.map(() => []);
  microBatches.forEach((batch, micro) => {
    const plan = micro === microBatches.length - 1 ? plans.last : plans.accumulate;
    const feeds = feedBatch(rank, plans.model, batch, { ...options, micro, share });
    const run = execute(plan, { ...rank, scales }, feeds.values);
    results.push(readLosses(rank, plans.model, run, routings));
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
    gradients: results,
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

/** Copies a micro-batch into engine memory; the seed of every loss is its share of the step's mean. */
function feedBatch(
  rank: Rank,
  model: ModelProgram,
  batch: MicroBatch,
  at: { step: number; seed: number; micro: number; share: number },
): { values: Map<number, unknown>; release: () => void } {
  const T = batch.tokens.length;
  const values = new Map<number, unknown>();
  const blocks = [rank.memory.allocate(T), rank.memory.allocate(T), rank.memory.allocate(T)];
  const asInts = (block: (typeof blocks)[0]) => new Int32Array(block.f32.buffer, block.f32.byteOffset, T);
  asInts(blocks[0]).set(batch.tokens);
  asInts(blocks[1]).set(batch.labels);
  blocks[2].f32.fill(at.share / T);
  values.set(model.tokens, { data: asInts(blocks[0]), dims: [T] } satisfies Tensor);
  if (model.labels !== undefined)
    values.set(model.labels, { data: asInts(blocks[1]), dims: [T] } satisfies Tensor);
  if (model.seed !== undefined) values.set(model.seed, { data: blocks[2].f32, dims: [T] } satisfies Tensor);
  model.noise.forEach((value, index) => {
    const N = rank.config.num_experts;
    const block = rank.memory.allocate(T * N);
    blocks.push(block);
    const noise = { data: block.f32, dims: [T, N] };
    gateNoise(noise, {
      seed: at.seed,
      step: at.step,
      microBatch: at.micro,
      index,
      firstToken: batch.firstToken,
    });
    values.set(value, noise);
  });
  return { values, release: () => blocks.forEach((block) => rank.memory.release(block)) };
}

function readLosses(
  rank: Rank,
  model: ModelProgram,
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
  for (const route of model.routings) {
    const { routing } = run.read<RoutingValue>(route.routing);
    routings[route.index].push(routing);
    balance +=
      route.lossShare *
      (useGlobal
        ? balanceLoss(
            statistics.firstChoices[route.index],
            statistics.probabilitySums[route.index],
            statistics.numTokens,
          )
        : balanceLoss(routing.firstChoices, routing.probabilitySums, routing.numTokens));
    z += route.lossShare * zLoss(routing);
  }
  return { lm: lm / losses.length, balance, z, statistics };
}

/** Bias-based balancing without an auxiliary loss: the bias of overloaded experts falls, of idle ones rises. */
function updateSelectionBias(rank: Rank, model: ModelProgram, results: readonly MicroResult[]): void {
  if (rank.config.balance !== "bias") return;
  const rate = rank.config.balance_bias_rate;
  const loads = new Map<string, Float64Array>();
  for (const route of model.routings) {
    const name = route.shape.selectionBias as string;
    const load = loads.get(name) ?? new Float64Array(route.shape.numExperts);
    for (const { statistics } of results)
      statistics?.load[route.index].forEach((rows, e) => (load[e] += rows));
    loads.set(name, load);
  }
  for (const [name, load] of loads) {
    const bias = rank.parameters.buffers.get(name)?.data;
    if (bias === undefined) continue;
    const mean = load.reduce((a, b) => a + b, 0) / load.length;
    load.forEach((rows, e) => (bias[e] += rate * Math.sign(mean - rows)));
  }
}
