import type { Routing } from "./routing.js";

/** What a MoE layer did with the rows of a step: plain sums, so that ranks and micro-batches add up. */
export interface LoadCounts {
  /** [N] rows each expert received. */
  readonly load: readonly number[];
  readonly dropped: number;
  /** Choices of experts that give their input back; undefined where there are none. */
  readonly zero: number | undefined;
  /** Choices of all tokens. */
  readonly wanted: number;
  /** Tokens with a gate logit that is not finite. */
  readonly nonFinite: number;
}

/** What the balance loss counts, over the tokens of several ranks or micro-batches. */
export interface BalanceStatistics {
  /** Per routing and class: tokens that count for it, and the sum of p over tokens. */
  readonly counted: readonly Float32Array[];
  readonly probabilitySums: readonly Float32Array[];
  readonly numTokens: number;
  /** Micro-batches of single ranks that were summed. */
  readonly pieces: number;
}

/** Figures of the loads of a layer (method 8.3). */
export interface LoadStatistics {
  /** [N] rows each expert received. */
  readonly tokensPerExpert: readonly number[];
  readonly droppedShare: number;
  /** Share of choices that went to experts that give their input back; undefined where there are none. */
  readonly zeroExpertShare: number | undefined;
  /** Choices of all tokens. */
  readonly choices: number;
  /** Entropy of the load in nats, divided by ln N: 1 is perfectly even, 0 one expert only. */
  readonly entropy: number;
  /** Largest load over mean load. */
  readonly imbalance: number;
  /** Tokens with a gate logit that is not finite. */
  readonly nonFinite: number;
}

export function countLoad(routings: readonly Routing[]): LoadCounts {
  const load = new Array<number>(routings[0].numExperts).fill(0);
  let [dropped, zero, wanted, nonFinite] = [0, 0, 0, 0];
  for (const routing of routings) {
    routing.load.forEach((rows, expert) => (load[expert] += rows));
    dropped += routing.numDropped;
    zero += routing.numZeroChoices;
    nonFinite += routing.numNonFinite;
    wanted += routing.numTokens * routing.topK;
  }
  return { load, dropped, zero: routings[0].numZeroExperts > 0 ? zero : undefined, wanted, nonFinite };
}

export function loadStatistics({ load, dropped, zero, wanted, nonFinite }: LoadCounts): LoadStatistics {
  const total = load.reduce((a, b) => a + b, 0);
  const rows = wanted - (zero ?? 0);
  const entropy = load.reduce((sum, n) => (n > 0 ? sum - (n / total) * Math.log(n / total) : sum), 0);
  return {
    tokensPerExpert: load,
    droppedShare: rows === 0 ? 0 : dropped / rows,
    zeroExpertShare: zero === undefined || wanted === 0 ? undefined : zero / wanted,
    choices: wanted,
    entropy: load.length > 1 ? entropy / Math.log(load.length) : 1,
    imbalance: total === 0 ? 1 : (Math.max(...load) * load.length) / total,
    nonFinite,
  };
}
