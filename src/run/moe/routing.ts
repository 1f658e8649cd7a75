/**
 * From gate logits to a routing: which experts each token is sent to, with what weight, and which of their rows it takes.
 * T tokens, N experts and Z zero experts behind them, K choices per token. Pure functions of their inputs.
 */
import type { MoeShape } from "../../program/kinds.js";
import { type BalanceClasses, type ClassCounts, balanceClasses, numLogits } from "./balance-classes.js";
import { choose } from "./choice.js";

export interface Routing extends ClassCounts {
  readonly numTokens: number;
  readonly topK: number;
  /** N: those that have rows. */
  readonly numExperts: number;
  readonly numZeroExperts: number;
  /** [T, N + Z] scores: softmax of a token's logits, or sigmoid of each. */
  readonly probabilities: Float32Array;
  /** [T, N + Z] softmax of the logits (z-loss). */
  readonly softmax: Float32Array;
  /** [T] logsumexp of the logits (z-loss). */
  readonly logSumExp: Float32Array;
  /** [T, K] chosen experts, best first, whether they found a row or not; from N on zero experts. */
  readonly choice: Int32Array;
  /** [T, K] row of its expert, −1 when the expert was full, or is a zero expert, which has none. */
  readonly rowInExpert: Int32Array;
  /** [N] rows each expert really gets from this rank. */
  readonly load: Int32Array;
  readonly numDropped: number;
  /** Choices of zero experts. */
  readonly numZeroChoices: number;
  /** Tokens with a gate logit that is NaN or infinite: they are sent to the first experts, and the step must not count. */
  readonly numNonFinite: number;
  /** What `counted` and `probabilitySums` count as one. */
  readonly classes: BalanceClasses;
}

export interface RouteOptions {
  readonly shape: MoeShape;
  /** [N + Z] added to scores for selection only (bias-based balancing). */
  readonly selectionBias?: Float32Array;
  /** The routing whose first choice is excluded, token by token (DGMoE's current representation). */
  readonly avoid?: Routing;
}

/** Beside the sum of scores that weights are divided by: of sigmoids nothing keeps it from 0. */
export const LEAST_SUM = 1e-20;

/** Whether a choice takes part in the output: it has a row, or is a zero expert. */
export function isKept({ choice, rowInExpert, numExperts }: Routing, index: number): boolean {
  return rowInExpert[index] >= 0 || choice[index] >= numExperts;
}

/** Rows per expert and rank: ceil(cf · k · T / N); unlimited when dropless (method 3.4). */
function capacityRows(shape: MoeShape, numTokens: number): number {
  if (shape.capacityFactor === null) return numTokens * shape.topK;
  return Math.ceil((shape.capacityFactor * shape.topK * numTokens) / shape.numExperts);
}

/**
 * @param logits [T, N + Z]
 * @param weights [T, K], written (method 3.3); 0 where dropped
 */
export function route(logits: Float32Array, weights: Float32Array, options: RouteOptions): Routing {
  const { shape, selectionBias, avoid } = options;
  const { numExperts: N, topK: K } = shape;
  const M = numLogits(shape);
  const T = logits.length / M;
  const isSigmoid = shape.scores === "sigmoid";
  const classes = balanceClasses(shape);
  const probabilities = new Float32Array(T * M);
  const softmax = isSigmoid ? new Float32Array(T * M) : probabilities;
  const logSumExp = new Float32Array(T);
  const choice = new Int32Array(T * K);
  const counted = new Float32Array(classes.count);
  const probabilitySums = new Float32Array(classes.count);
  const score = new Float64Array(M);
  const isCounted = new Uint8Array(classes.count);
  let numNonFinite = 0;
  for (let t = 0; t < T; t++) {
    const row = t * M;
    let max = -Infinity;
    let isFinite = true;
    for (let i = 0; i < M; i++) {
      max = Math.max(max, logits[row + i]);
      isFinite &&= Number.isFinite(logits[row + i]);
    }
    if (!isFinite) numNonFinite++;
    let sum = 0;
    for (let i = 0; i < M; i++) sum += score[i] = Math.exp(logits[row + i] - max);
    logSumExp[t] = max + Math.log(sum);
    for (let i = 0; i < M; i++) softmax[row + i] = score[i] / sum;
    let whole = 1;
    if (isSigmoid) {
      whole = 0;
      for (let i = 0; i < M; i++) whole += probabilities[row + i] = 1 / (1 + Math.exp(-logits[row + i]));
      whole += LEAST_SUM;
    }
    let best = 0;
    for (let i = 0; i < M; i++) {
      probabilitySums[classes.classOf[i]] += probabilities[row + i] / whole;
      if (probabilities[row + i] > probabilities[row + best]) best = i;
    }
    if (!classes.countsChoices) counted[best]++;
    // A NaN compares with nothing: without this, one expert would be chosen k times.
    for (let i = 0; i < M; i++) score[i] = isFinite ? probabilities[row + i] + (selectionBias?.[i] ?? 0) : 0;
    if (avoid !== undefined) score[avoid.choice[t * avoid.topK]] = -Infinity;
    const chosen = choice.subarray(t * K, (t + 1) * K);
    choose(chosen, score, shape);
    if (!classes.countsChoices) continue;
    isCounted.fill(0);
    for (const expert of chosen) isCounted[classes.classOf[expert]] = 1;
    isCounted.forEach((is, i) => (counted[i] += is));
  }
  const rows = takeRows(choice, { T, K, N, capacity: capacityRows(shape, T) });
  const routing: Routing = {
    numTokens: T,
    topK: K,
    numExperts: N,
    numZeroExperts: shape.numZeroExperts,
    probabilities,
    softmax,
    logSumExp,
    choice,
    ...rows,
    numNonFinite,
    classes,
    counted,
    probabilitySums,
  };
  for (let t = 0; t < T; t++) {
    let kept = 0;
    for (let j = 0; j < K; j++) kept += probabilities[t * M + choice[t * K + j]];
    const divisor = shape.renormalize ? kept + LEAST_SUM : 1;
    for (let j = 0; j < K; j++) {
      const p = probabilities[t * M + choice[t * K + j]];
      weights[t * K + j] = isKept(routing, t * K + j) ? (p / divisor) * shape.scaling : 0;
    }
  }
  return routing;
}

/** Experts' rows are taken in token order, all first choices before any second choice (method 3.4). */
function takeRows(choice: Int32Array, d: { T: number; K: number; N: number; capacity: number }) {
  const rowInExpert = new Int32Array(d.T * d.K).fill(-1);
  const load = new Int32Array(d.N);
  let [numDropped, numZeroChoices] = [0, 0];
  for (let j = 0; j < d.K; j++) {
    for (let t = 0; t < d.T; t++) {
      const expert = choice[t * d.K + j];
      if (expert >= d.N) numZeroChoices++;
      else if (load[expert] < d.capacity) rowInExpert[t * d.K + j] = load[expert]++;
      else numDropped++;
    }
  }
  return { rowInExpert, load, numDropped, numZeroChoices };
}

/** Mean over tokens of logsumexp(logits)² (method 4.3). */
export function zLoss(routing: Routing): number {
  let sum = 0;
  for (const value of routing.logSumExp) sum += value * value;
  return sum / routing.numTokens;
}
