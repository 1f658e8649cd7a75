/**
 * What a balance loss counts as one: each expert by its tokens' likeliest choice, or the experts of a device, and all zero
 * experts, by the tokens that chose among them (method 4.1, 4.6).
 */
import type { MoeShape } from "../../program/kinds.js";

export interface BalanceClasses {
  /** [N + Z] class of each expert. */
  readonly classOf: Int32Array;
  readonly count: number;
  /** Whether a token counts for every class that it chose from, rather than for its likeliest expert. */
  readonly countsChoices: boolean;
  /** Factor of a class in the loss, and of the last class where that is the zero experts. */
  readonly weight: number;
  readonly zeroWeight?: number;
}

/** Experts whose logits a gate has: those that compute, and after them those that give their input back. */
export function numLogits({ numExperts, numZeroExperts }: MoeShape): number {
  return numExperts + numZeroExperts;
}

const known = new WeakMap<MoeShape, BalanceClasses>();

export function balanceClasses(shape: MoeShape): BalanceClasses {
  let classes = known.get(shape);
  if (classes === undefined) known.set(shape, (classes = makeClasses(shape)));
  return classes;
}

function makeClasses(shape: MoeShape): BalanceClasses {
  const { numExperts: N, numZeroExperts: Z, topK: K, activeExperts: active, balanceGroups: D } = shape;
  if (D === undefined) {
    const all = numLogits(shape);
    return {
      classOf: Int32Array.from({ length: all }, (_, i) => i),
      count: all,
      countsChoices: false,
      weight: all,
    };
  }
  const classOf = Int32Array.from({ length: N + Z }, (_, i) => (i < N ? Math.floor((i * D) / N) : D));
  const common = { classOf, countsChoices: true, weight: D / active };
  return Z === 0 ? { ...common, count: D } : { ...common, count: D + 1, zeroWeight: 1 / (K - active) };
}

/** Per class: tokens that count for it, and the sum over tokens of the probability of its experts. */
export interface ClassCounts {
  readonly counted: Float32Array;
  readonly probabilitySums: Float32Array;
  readonly numTokens: number;
}

/** Σ over classes of weight · share of tokens · mean probability; 1 when perfectly balanced and no token counts twice. */
export function balanceLoss(
  { weight, zeroWeight }: BalanceClasses,
  { counted, probabilitySums, numTokens }: ClassCounts,
): number {
  const even = zeroWeight === undefined ? counted.length : counted.length - 1;
  const part = (i: number): number => (counted[i] / numTokens) * (probabilitySums[i] / numTokens);
  let sum = 0;
  for (let i = 0; i < even; i++) sum += part(i);
  return zeroWeight === undefined ? weight * sum : weight * sum + zeroWeight * part(even);
}

/** Derivative of `scale` times that loss by the probability of an expert in one token, for each class. */
export function balanceGradient(
  { weight, zeroWeight }: BalanceClasses,
  { counted, numTokens }: Pick<ClassCounts, "counted" | "numTokens">,
  scale: number,
): Float64Array {
  return Float64Array.from(counted, (tokens, i) => {
    const isZero = zeroWeight !== undefined && i === counted.length - 1;
    return (scale * (isZero ? zeroWeight : weight) * (tokens / numTokens)) / numTokens;
  });
}
