import type { ModelConfig } from "../model/config.js";
import { inferenceNeed } from "../run/inference-need.js";
import type { MemoryNeed } from "../run/memory-need.js";

/** What sampling holds on the process's own thread, and a token of its tokenizer. */
const BASE_BYTES = 20e6;
const TOKEN_BYTES = 1500;

/** What writing text will need: of a longest context, the tokens of a text are no more than its bytes. */
export function generationNeed(
  config: ModelConfig,
  of: { readonly promptTokens: number; readonly maxNewTokens: number },
): MemoryNeed {
  const tokens = Math.max(1, of.promptTokens) + of.maxNewTokens;
  return inferenceNeed(config, {
    batch: 1,
    sequence: Math.min(tokens, config.max_position_embeddings),
    head: "logits",
    anyLength: true,
    ranks: 1,
    inProcess: 1,
    base: BASE_BYTES + TOKEN_BYTES * config.vocab_size,
  });
}
