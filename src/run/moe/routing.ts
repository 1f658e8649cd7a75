/**
 * From gate logits to a routing: which experts each token is sent to, with what weight, and which of their rows it takes.
 * T tokens, N experts, K kept choices per token. Pure functions of their inputs; ties go to the lower expert index.
 */
import type { MoeShape } from "../../program/kinds.js";

export interface Routing {
  readonly numTokens: number;
  readonly topK: number;
  readonly numExperts: number;
  /** [T, N] softmax of the logits. */
  readonly probabilities: Float32Array;
  /** [T] logsumexp of the logits (z-loss). */
  readonly logSumExp: Float32Array;
  /** [T, K] chosen experts, by descending probability, whether they found a row or not. */
  readonly choice: Int32Array;
  /** [T, K] row of its expert, −1 when the expert was full. */
  readonly rowInExpert: Int32Array;
  /** [N] rows each expert really gets from this rank. */
  readonly load: Int32Array;
  readonly numDropped: number;
  /** Tokens with a gate logit that is NaN or infinite: they are sent to the first experts, and the step must not count. */
  readonly numNonFinite: number;
  /** [N] tokens whose arg-max of p is expert i, and [N] sum over tokens of p (balance loss). */
  readonly firstChoices: Float32Array;
  readonly probabilitySums: Float32Array;
}

export interface RouteOptions {
  readonly shape: MoeShape;
  /** [N] added to p for selection only (bias-based balancing). */
  readonly selectionBias?: Float32Array;
  /** The routing whose first choice is excluded, token by token (DGMoE's current representation). */
  readonly avoid?: Routing;
}

/** Rows per expert and rank: ceil(cf · k · T / N); unlimited when dropless (method 3.4). */
function capacityRows(shape: MoeShape, numTokens: number): number {
  if (shape.capacityFactor === null) return numTokens * shape.topK;
  return Math.ceil((shape.capacityFactor * shape.topK * numTokens) / shape.numExperts);
}

/**
 * @param logits [T, N]
 * @param weights [T, K], written: p of the choice (k = 1) or p renormalised over the choices; 0 where dropped
 */
export function route(logits: Float32Array, weights: Float32Array, options: RouteOptions): Routing {
  const { shape, selectionBias, avoid } = options;
  const N = shape.numExperts;
  const K = shape.topK;
  const T = logits.length / N;
  const probabilities = new Float32Array(T * N);
  const logSumExp = new Float32Array(T);
  const choice = new Int32Array(T * K);
  const firstChoices = new Float32Array(N);
  const probabilitySums = new Float32Array(N);
  const score = new Float64Array(N);
  let numNonFinite = 0;
  for (let t = 0; t < T; t++) {
    const row = t * N;
    let max = -Infinity;
    let isFinite = true;
    for (let i = 0; i < N; i++) {
      max = Math.max(max, logits[row + i]);
      isFinite &&= Number.isFinite(logits[row + i]);
    }
    if (!isFinite) numNonFinite++;
    let sum = 0;
    for (let i = 0; i < N; i++) sum += score[i] = Math.exp(logits[row + i] - max);
    logSumExp[t] = max + Math.log(sum);
    let best = 0;
    for (let i = 0; i < N; i++) {
      probabilities[row + i] = score[i] / sum;
      probabilitySums[i] += probabilities[row + i];
      if (probabilities[row + i] > probabilities[row + best]) best = i;
    }
    firstChoices[best]++;
    // A NaN compares with nothing: without this, one expert would be chosen k times.
    for (let i = 0; i < N; i++) score[i] = isFinite ? probabilities[row + i] + (selectionBias?.[i] ?? 0) : 0;
    if (avoid !== undefined) score[avoid.choice[t * avoid.topK]] = -Infinity;
    for (let j = 0; j < K; j++) {
      let top = 0;
      for (let i = 1; i < N; i++) if (score[i] > score[top]) top = i;
      choice[t * K + j] = top;
      score[top] = -Infinity;
    }
  }
  const { rowInExpert, load, numDropped } = takeRows(choice, { T, K, N, capacity: capacityRows(shape, T) });
  for (let t = 0; t < T; t++) {
    let kept = 0;
    for (let j = 0; j < K; j++) kept += probabilities[t * N + choice[t * K + j]];
    for (let j = 0; j < K; j++) {
      const p = probabilities[t * N + choice[t * K + j]];
      weights[t * K + j] = rowInExpert[t * K + j] < 0 ? 0 : shape.renormalize ? p / kept : p;
    }
  }
  return {
    numTokens: T,
    topK: K,
    numExperts: N,
    probabilities,
    logSumExp,
    choice,
    rowInExpert,
    load,
    numDropped,
    numNonFinite,
    firstChoices,
    probabilitySums,
  };
}

/** Experts' rows are taken in token order, all first choices before any second choice (method 3.4). */
function takeRows(choice: Int32Array, d: { T: number; K: number; N: number; capacity: number }) {
  const rowInExpert = new Int32Array(d.T * d.K);
  const load = new Int32Array(d.N);
  let numDropped = 0;
  for (let j = 0; j < d.K; j++) {
    for (let t = 0; t < d.T; t++) {
      const expert = choice[t * d.K + j];
      if (load[expert] < d.capacity) rowInExpert[t * d.K + j] = load[expert]++;
      else {
        rowInExpert[t * d.K + j] = -1;
        numDropped++;
      }
    }
  }
  return { rowInExpert, load, numDropped };
}

export interface AuxiliaryLoss {
  /** Gradient scales of the balance loss and of the z-loss: coefficient × share of the layer mean × share of the batch. */
  readonly balanceScale: number;
  readonly zScale: number;
  /** Statistics of more tokens than these ([N] first choices, number of tokens), when the balance is theirs. */
  readonly counted?: { readonly firstChoices: Float32Array; readonly numTokens: number };
}

/**
 * Derivative of `route`: dLogits [T, N] from dWeights [T, K], plus the gradients of the balance loss
 * N·Σ fᵢPᵢ (through P only) and of the z-loss mean(logsumexp²) (method 3.5, 4.1, 4.3).
 */
export function routeGradient(
  dLogits: Float32Array,
  dWeights: Float32Array,
  routing: Routing,
  shape: MoeShape,
  loss: AuxiliaryLoss,
): void {
  const { numTokens: T, topK: K, numExperts: N, probabilities: p, choice, rowInExpert } = routing;
  const counted = loss.counted ?? { firstChoices: routing.firstChoices, numTokens: T };
  const balance = new Float64Array(N);
  for (let i = 0; i < N; i++)
    balance[i] = (loss.balanceScale * N * (counted.firstChoices[i] / counted.numTokens)) / counted.numTokens;
  const dp = new Float64Array(N);
  for (let t = 0; t < T; t++) {
    dp.set(balance);
    let kept = 0;
    let weighted = 0;
    for (let j = 0; j < K; j++) {
      const pj = p[t * N + choice[t * K + j]];
      kept += pj;
      if (rowInExpert[t * K + j] >= 0) weighted += dWeights[t * K + j] * pj;
    }
    for (let j = 0; j < K; j++) {
      const own = rowInExpert[t * K + j] >= 0 ? dWeights[t * K + j] : 0;
      dp[choice[t * K + j]] += shape.renormalize ? (own - weighted / kept) / kept : own;
    }
    let dot = 0;
    for (let i = 0; i < N; i++) dot += dp[i] * p[t * N + i];
    const z = (2 * loss.zScale * routing.logSumExp[t]) / T;
    for (let i = 0; i < N; i++) dLogits[t * N + i] = p[t * N + i] * (dp[i] - dot + z);
  }
}

/** N · Σ fᵢ · Pᵢ over the tokens counted; 1 when perfectly balanced (method 4.1). */
export function balanceLoss(
  firstChoices: Float32Array,
  probabilitySums: Float32Array,
  numTokens: number,
): number {
  let sum = 0;
  for (let i = 0; i < firstChoices.length; i++)
    sum += (firstChoices[i] / numTokens) * (probabilitySums[i] / numTokens);
  return firstChoices.length * sum;
}

/** Mean over tokens of logsumexp(logits)² (method 4.3). */
export function zLoss(routing: Routing): number {
  let sum = 0;
  for (const value of routing.logSumExp) sum += value * value;
  return sum / routing.numTokens;
}
