import type { Routing } from "./routing.js";

/** What a MoE layer did with the rows of a step: plain sums, so that ranks and micro-batches add up. */
export interface LoadCounts {
  /** [N] rows each expert received. */
  readonly load: readonly number[];
  readonly dropped: number;
  /** Rows sent if no expert had been full. */
  readonly wanted: number;
  /** Tokens with a gate logit that is not finite. */
  readonly nonFinite: number;
}

/** What the balance loss counts, over the tokens of several ranks or micro-batches. */
export interface BalanceStatistics {
  /** Per routing [N]: tokens whose likeliest expert it is, and the sum of p over tokens. */
  readonly firstChoices: readonly Float32Array[];
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
  /** Entropy of the load in nats, divided by ln N: 1 is perfectly even, 0 one expert only. */
  readonly entropy: number;
  /** Largest load over mean load. */
  readonly imbalance: number;
  /** Tokens with a gate logit that is not finite. */
  readonly nonFinite: number;
}

export function countLoad(routings: readonly Routing[]): LoadCounts {
  const load = new Array<number>(routings[0].numExperts).fill(0);
  let [dropped, wanted, nonFinite] = [0, 0, 0];
  for (const routing of routings) {
    routing.load.forEach((rows, expert) => (load[expert] += rows));
    dropped += routing.numDropped;
    nonFinite += routing.numNonFinite;
    wanted += routing.numTokens * routing.topK;
  }
  return { load, dropped, wanted, nonFinite };
}

export function loadStatistics({ load, dropped, wanted, nonFinite }: LoadCounts): LoadStatistics {
  const total = load.reduce((a, b) => a + b, 0);
  const entropy = load.reduce(
    (sum, rows) => (rows > 0 ? sum - (rows / total) * Math.log(rows / total) : sum),
    0,
  );
  return {
    tokensPerExpert: load,
    droppedShare: wanted === 0 ? 0 : dropped / wanted,
    entropy: load.length > 1 ? entropy / Math.log(load.length) : 1,
    imbalance: total === 0 ? 1 : (Math.max(...load) * load.length) / total,
    nonFinite,
  };
}
