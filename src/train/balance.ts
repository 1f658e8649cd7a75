/** The balance of experts over a whole step: statistics of its loss, and the selection biases that do without one. */
import { sumScalars } from "../comm/collectives.js";
import type { TrainingProgram } from "../model/training-program.js";
import type { MoeShape } from "../program/kinds.js";
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
    const N = ofMicroBatches[0].classes.count;
    const sum = (of: "counted" | "probabilitySums"): number[] =>
      Array.from({ length: N }, (_, i) =>
        ofMicroBatches.reduce((total, routing) => total + routing[of][i], 0),
      );
    return [...sum("counted"), ...sum("probabilitySums")];
  });
  const tokens = routings[0].reduce((total, { numTokens }) => total + numTokens, 0);
  return [tokens, routings[0].length, ...sums];
}

/** @param totals of `balanceCounts` over all ranks */
export function balanceOf(totals: readonly number[], routings: StepRoutings): BalanceStatistics {
  const [numTokens, pieces, ...sums] = totals;
  const N = routings[0][0].classes.count;
  const part = (which: number): Float32Array[] =>
    routings.map((_, i) => Float32Array.from(sums.slice((2 * i + which) * N, (2 * i + which + 1) * N)));
  return { counted: part(0), probabilitySums: part(1), numTokens, pieces };
}

/**
 * Bias-based balancing without an auxiliary loss (method 4.4): the bias of overloaded experts falls, of idle ones rises.
 * That of zero experts stays: it is the others' that decide how often these are chosen.
 * @param loads per routing, over the step's tokens of all ranks
 */
export function updateSelectionBias(
  rank: Rank,
  model: TrainingProgram,
  loads: readonly LoadStatistics[],
): void {
  if (rank.config.balance !== "bias") return;
  const { balance_bias_rate: rate, balance_bias_update: rule } = rank.config;
  const ofBias = new Map<
    string,
    { readonly load: Float64Array; choices: number; readonly shape: MoeShape }
  >();
  model.routings.forEach(({ data: { shape } }, index) => {
    const name = shape.selectionBias as string;
    const sum = ofBias.get(name) ?? { load: new Float64Array(shape.numExperts), choices: 0, shape };
    loads[index].tokensPerExpert.forEach((rows, e) => (sum.load[e] += rows));
    sum.choices += loads[index].choices;
    ofBias.set(name, sum);
  });
  for (const [name, { load, choices, shape }] of ofBias) {
    const bias = rank.weights.buffers.get(name)?.data;
    if (bias === undefined) continue;
    const wanted = shape.activeExperts / (shape.topK * load.length);
    const mean = load.reduce((a, b) => a + b, 0) / load.length;
    load.forEach((rows, e) => {
      bias[e] += rate * (rule === "sign" ? Math.sign(mean - rows) : wanted - rows / choices);
    });
  }
}
