/** What an engine will need, from the config alone. */
import { greatestDivisor } from "../core/divisor.js";
import type { WeightForm } from "../kernel/quantise.js";
import type { ModelConfig } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import { heldWeights } from "../run/held-weights.js";
import { peaks } from "../run/inference-need.js";
import { type MemoryNeed, type RankPlaces, inferenceRankBase, memoryNeed } from "../run/memory-need.js";
import { peakMemory } from "../run/peak-memory.js";
import { parsePolicy } from "../schedule/policy.js";
import { sequential } from "../schedule/sequential.js";
import { cachedModel } from "./cached-forward.js";

/** A token of the tokenizer, on the process's own thread. */
const TOKEN_BYTES = 1500;

export interface EngineShape {
  readonly form: WeightForm;
  readonly slots: number;
  readonly contextLength: number;
  readonly chunk: number;
  readonly cacheBytes?: number | undefined;
  readonly policy: string;
  /** Whether the model has one. */
  readonly hasTokenizer: boolean;
  /** Whether a rank has a thread of its own, or runs on the process's. Default "own". */
  readonly thread?: "own" | "process";
}

/**
 * @param of where the ranks are
 * @throws InputError when there is no such policy
 */
export function engineNeed(config: ModelConfig, of: EngineShape & RankPlaces): MemoryNeed {
  const { form, slots, contextLength, chunk, cacheBytes = Infinity, ranks, inProcess } = of;
  const epSize = greatestDivisor(ranks, config.num_experts);
  const policy = parsePolicy(of.policy);
  const { program, symbols, output } = cachedModel(config, {
    ...{ capacity: contextLength, rows: { batch: 1, sequence: Math.min(chunk, contextLength) } },
    ...{ epSize, policy, ranks },
  });
  const keep = new Set([output]);
  const { even, worst } = peaks((spread) =>
    peakMemory(program, sequential(program), { keep, symbols, spread }),
  );
  // The program's states are the cache of one sequence.
  const slotBytes = program.values.reduce((sum, { isState, bytes }) => sum + (isState ? bytes : 0), 0);
  const others = Math.min(slots * slotBytes, cacheBytes) - slotBytes;
  const { heldBytes, readingBytes } = heldWeights(program, form, listParameters(config));
  const rank = {
    weights: heldBytes,
    ...{ gradients: 0, moments: 0 },
    // Weights are read before there are activations.
    activations: Math.max(even.bytes + others, readingBytes),
    graphBytes: even.engineBytes,
    base: inferenceRankBase(of, of.thread ?? "own"),
  };
  const tokenizerBytes = of.hasTokenizer ? TOKEN_BYTES * config.vocab_size : 0;
  return memoryNeed(rank, { ranks: inProcess, worstActivations: worst.bytes + others }, tokenizerBytes);
}
