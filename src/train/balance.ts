/** The balance of experts over a whole step: statistics of its loss, and the selection biases that do without one. */
import { sumScalars } from "../comm/collectives.js";
import type { TrainingProgram } from "../model/training-program.js";
import type { Routing } from "../run/moe/routing.js";
import type { BalanceStatistics, LoadStatistics } from "../run/moe/statistics.js";
import type { Rank } from "../run/rank.js";

/** Per routing of the model: one of each micro-batch. */
export type StepRoutings = readonly (readonly Routing[])[];

/**
 * Sums what the balance loss counts over the micro-batches of this rank, and over ranks.
 * @throws CommError when a peer does not answer or is lost
 */
export function stepStatistics({ world }: Rank, routings: StepRoutings): BalanceStatistics {
  return balanceOf(sumScalars(world, balanceCounts(routings), "balance of the step"), routings);
}

/** What this rank's micro-batches count, as one row of numbers to be added up over ranks. */
export function balanceCounts(routings: StepRoutings): number[] {
  const sums = routings.flatMap((ofMicroBatches) => {
    const N = ofMicroBatches[0].numExperts;
    const sum = (of: "firstChoices" | "probabilitySums"): number[] =>
      Array.from({ length: N }, (_, i) =>
        ofMicroBatches.reduce((total, routing) => total + routing[of][i], 0),
      );
    return [...sum("firstChoices"), ...sum("probabilitySums")];
  });
  const tokens = routings[0].reduce((total, { numTokens }) => total + numTokens, 0);
  return [tokens, routings[0].length, ...sums];
}

/** @param totals of `balanceCounts` over all ranks */
export function balanceOf(totals: readonly number[], routings: StepRoutings): BalanceStatistics {
  const [numTokens, pieces, ...sums] = totals;
  const N = routings[0][0].numExperts;
  const part = (which: number): Float32Array[] =>
    routings.map((_, i) => Float32Array.from(sums.slice((2 * i + which) * N, (2 * i + which + 1) * N)));
  return { firstChoices: part(0), probabilitySums: part(1), numTokens, pieces };
}

/**
 * Bias-based balancing without an auxiliary loss (method 4.4): the bias of overloaded experts falls, of idle ones rises.
 * @param loads per routing, over the step's tokens of all ranks
 */
export function updateSelectionBias(
  rank: Rank,
  model: TrainingProgram,
  loads: readonly LoadStatistics[],
): void {
  if (rank.config.balance !== "bias") return;
  const rate = rank.config.balance_bias_rate;
  const ofBias = new Map<string, Float64Array>();
  model.routings.forEach(({ data: { shape } }, index) => {
    const name = shape.selectionBias as string;
    const load = ofBias.get(name) ?? new Float64Array(shape.numExperts);
    loads[index].tokensPerExpert.forEach((rows, e) => (load[e] += rows));
    ofBias.set(name, load);
  });
  for (const [name, load] of ofBias) {
    const bias = rank.weights.buffers.get(name)?.data;
    if (bias === undefined) continue;
    const mean = load.reduce((a, b) => a + b, 0) / load.length;
    load.forEach((rows, e) => (bias[e] += rate * Math.sign(mean - rows)));
  }
}
