import { philox } from "../core/rng.js";

/** How the next token is chosen, and how many there are. */
export interface SamplingOptions {
  readonly maxNewTokens: number;
  /** 0: always the likeliest token. */
  readonly temperature: number;
  /** Only the k likeliest tokens; 0: all. */
  readonly topK: number;
  /** Only the likeliest tokens whose probabilities together reach this share (nucleus sampling); 1: all. */
  readonly topP: number;
  readonly seed: number;
}

/** Softmax with temperature over the likeliest; the random number depends on (seed, index) alone. */
export function sample(logits: Float32Array, options: SamplingOptions, index: number): number {
  const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a]);
  if (options.temperature === 0) return order[0];
  const kept = options.topK > 0 ? order.slice(0, options.topK) : order;
  const weights = kept.map((id) => Math.exp((logits[id] - logits[order[0]]) / options.temperature));
  const nucleus = options.topP * weights.reduce((a, b) => a + b, 0);
  let count = 0;
  for (let sum = 0; count < kept.length && (count === 0 || sum < nucleus); count++) sum += weights[count];
  const total = weights.slice(0, count).reduce((a, b) => a + b, 0);
  let left = philox(options.seed, "sampling").uniform(index) * total;
  for (let i = 0; i < count; i++) if ((left -= weights[i]) < 0) return kept[i];
  return kept[count - 1];
}
