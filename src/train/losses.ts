/** What a step says of its losses and loads: read from its runs, summed over micro-batches and ranks. */
import { sumScalars } from "../comm/collectives.js";
import type { Tensor } from "../core/tensor.js";
import type { ModelProgram } from "../model/language-model.js";
import { type TrainingProgram, hasBalanceLoss } from "../model/training-program.js";
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
import { type StepRoutings, balanceCounts, balanceOf } from "./balance.js";
import type { Trainee } from "./trainee.js";

/** Means over all tokens of all ranks. */
export interface StepLosses {
  readonly lmLoss: number;
  /** Of a student: mean divergence from its teacher. */
  readonly distillLoss?: number | undefined;
  /** Of the tokens that the loss counts; where it has no such term, of all tokens of the step. */
  readonly balanceLoss: number;
  readonly zLoss: number;
  readonly loss: number;
  /** Load per MoE routing over the tokens of all ranks, in the order of `model.routings`. */
  readonly loads: readonly LoadStatistics[];
}

/** Of a micro-batch, on this rank. */
interface MicroLosses {
  readonly lm: number;
  readonly divergence: number;
  readonly balance: number;
  readonly z: number;
}

/** Of all micro-batches of a step, on this rank. */
export interface RankLosses {
  readonly losses: readonly MicroLosses[];
  readonly routings: StepRoutings;
}

export interface LossReader {
  /** @param ids of the micro-batch's values in the run's program, by id in the model's; before the run is released */
  add(run: RunResult, ids: readonly number[]): void;
  results(): RankLosses;
}

/** @param fed balance statistics of the whole step, where they were fed */
export function readLosses(model: TrainingProgram, fed: BalanceStatistics | undefined): LossReader {
  const losses: MicroLosses[] = [];
  const routings: Routing[][] = model.routings.map(() => []);
  return {
    add(run, ids) {
      const found = routingsOf(model, run, ids);
      found.forEach((routing, index) => routings[index].push(routing));
      const { statistics: own } = model;
      const statistics = fed ?? (own === undefined ? undefined : run.read<BalanceStatistics>(ids[own]));
      losses.push(microLosses(model, (value) => run.read(ids[value]), { routings: found, statistics }));
    },
    results: () => ({ losses, routings }),
  };
}

/** The routings of a micro-batch. @param ids default: the run's program is the model's */
export function routingsOf({ routings }: ModelProgram, run: RunResult, ids?: readonly number[]): Routing[] {
  return routings.map(
    ({ data }) => run.read<RoutingValue>(ids === undefined ? data.routing : ids[data.routing]).routing,
  );
}

function microLosses(
  { output, distilled }: TrainingProgram,
  read: <T>(value: number) => T,
  of: { readonly routings: readonly Routing[]; readonly statistics: BalanceStatistics | undefined },
): MicroLosses {
  const mean = (value: number): number => {
    const { data } = read<Tensor<Float32Array>>(value);
    let sum = 0;
    for (const loss of data) sum += loss;
    return sum / data.length;
  };
  const { routings, statistics } = of;
  let balance = 0;
  let z = 0;
  const lossShare = 1 / routings.length;
  routings.forEach((routing, index) => {
    const counts = statistics === undefined ? routing : countsOf(statistics, index);
    balance += lossShare * balanceLoss(routing.classes, counts);
    z += lossShare * zLoss(routing);
  });
  return {
    lm: mean(output),
    divergence: distilled === undefined ? 0 : mean(distilled.divergences),
    balance,
    z,
  };
}

/**
 * Sums over micro-batches and ranks.
 * @param share of a micro-batch in the step
 * @throws CommError when a peer does not answer or is lost
 */
export function lossesOf(rank: Trainee, { losses: own, routings }: RankLosses, share: number): StepLosses {
  const { config } = rank;
  const losses = (["lm", "divergence", "balance", "z"] as const).map(
    (of) => own.reduce((sum, micro) => sum + micro[of], 0) * share,
  );
  const counts = routings.map(countLoad);
  const isWatched = routings.length > 0 && !hasBalanceLoss(config);
  const watched = isWatched ? balanceCounts(routings) : [];
  const loads = counts.flatMap((c) => [...c.load, c.dropped, c.zero ?? 0, c.wanted, c.nonFinite]);
  const [lmLoss, distillLoss, ofPieces, z, ...sums] = sumScalars(
    rank.world,
    [...losses, ...watched, ...loads],
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
  const taught = rank.teacher === undefined ? {} : { distillLoss };
  return { lmLoss, ...taught, balanceLoss: balance, zLoss: z, loss, loads: statisticsOf(counts, sums) };
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

function countsOf({ counted, probabilitySums, numTokens }: BalanceStatistics, index: number): ClassCounts {
  return { counted: counted[index], probabilitySums: probabilitySums[index], numTokens };
}

function meanBalance(statistics: BalanceStatistics, routings: StepRoutings): number {
  const losses = routings.map(([{ classes }], i) => balanceLoss(classes, countsOf(statistics, i)));
  return losses.reduce((sum, loss) => sum + loss, 0) / routings.length;
}
