/** The derivative of a routing: of its weights, of the balance loss and of the z-loss, by the gate's logits. */
import type { MoeShape } from "../../program/kinds.js";
import { type ClassCounts, balanceGradient } from "./balance-classes.js";
import { LEAST_SUM, type Routing, isKept } from "./routing.js";

export interface AuxiliaryLoss {
  /** Gradient scales of the balance loss and of the z-loss: coefficient × share of the layer mean × share of the batch. */
  readonly balanceScale: number;
  readonly zScale: number;
  /** Statistics of more tokens than these, when the balance is theirs. */
  readonly counted?: Pick<ClassCounts, "counted" | "numTokens">;
}

/**
 * Derivative of `route`: dLogits [T, N + Z] from dWeights [T, K], plus the gradients of the balance loss (through
 * probabilities only) and of the z-loss mean(logsumexp²) (method 3.5, 4.1, 4.3).
 */
export function routeGradient(
  dLogits: Float32Array,
  dWeights: Float32Array,
  routing: Routing,
  shape: MoeShape,
  loss: AuxiliaryLoss,
): void {
  const { numTokens: T, topK: K, probabilities: p, softmax, choice, classes } = routing;
  const M = classes.classOf.length;
  const isSigmoid = shape.scores === "sigmoid";
  const ofClass = balanceGradient(classes, loss.counted ?? routing, loss.balanceScale);
  const balance = Float64Array.from(classes.classOf, (of) => ofClass[of]);
  const dp = new Float64Array(M);
  for (let t = 0; t < T; t++) {
    const row = t * M;
    if (isSigmoid) ofShares(dp, balance, p.subarray(row, row + M));
    else dp.set(balance);
    let kept = 0;
    let weighted = 0;
    for (let j = 0; j < K; j++) {
      const pj = p[row + choice[t * K + j]];
      kept += pj;
      if (isKept(routing, t * K + j)) weighted += dWeights[t * K + j] * pj;
    }
    kept += LEAST_SUM;
    for (let j = 0; j < K; j++) {
      const own = isKept(routing, t * K + j) ? dWeights[t * K + j] : 0;
      dp[choice[t * K + j]] += shape.scaling * (shape.renormalize ? (own - weighted / kept) / kept : own);
    }
    const z = (2 * loss.zScale * routing.logSumExp[t]) / T;
    if (isSigmoid) {
      for (let i = 0; i < M; i++)
        dLogits[row + i] = p[row + i] * (1 - p[row + i]) * dp[i] + softmax[row + i] * z;
      continue;
    }
    let dot = 0;
    for (let i = 0; i < M; i++) dot += dp[i] * p[row + i];
    for (let i = 0; i < M; i++) dLogits[row + i] = p[row + i] * (dp[i] - dot + z);
  }
}

/** Derivative by scores of what depends on each score's share of their sum: the balance loss of sigmoid scores. */
function ofShares(dScores: Float64Array, dShares: Float64Array, scores: Float32Array): void {
  let [whole, dot] = [LEAST_SUM, 0];
  for (const score of scores) whole += score;
  scores.forEach((score, i) => (dot += (dShares[i] * score) / whole));
  dShares.forEach((d, i) => (dScores[i] = (d - dot) / whole));
}
