import { philox } from "../core/rng.js";
import type { MicroBatch } from "../train/micro-batch.js";

/** Tokens and labels that a seed stands for. */
export function randomBatch(vocabSize: number, count: number, seed: number): MicroBatch {
  const random = philox(seed, "benchmark tokens");
  const draw = (offset: number): Int32Array =>
    Int32Array.from({ length: count }, (_, i) => Math.floor(random.uniform(i + offset) * vocabSize));
  return { tokens: draw(0), labels: draw(count), firstToken: 0 };
}
