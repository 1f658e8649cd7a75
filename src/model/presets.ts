import { InputError, didYouMean } from "../core/errors.js";
import type { ModelInput } from "./config.js";

const TINY: ModelInput = {
  arch: "scmoe-pos2",
  vocab_size: 2048,
  hidden_size: 128,
  intermediate_size: 512,
  num_attention_heads: 4,
  num_hidden_layers: 4,
  num_experts: 4,
  max_position_embeddings: 128,
};

/**
 * Sizes by name. The paper's four language models (method 11.2), and small ones that train in minutes on two cores.
 * `arch` is the default; any other can be set.
 */
export const PRESETS: Readonly<Record<string, ModelInput>> = {
  tiny: TINY,
  // Learns more from few tokens than style gpt does.
  "tiny-llama": { ...TINY, style: "llama", tie_word_embeddings: true, initializer_range: 0.04 },
  small: {
    arch: "scmoe-pos2",
    vocab_size: 8192,
    hidden_size: 256,
    intermediate_size: 1024,
    num_attention_heads: 4,
    num_hidden_layers: 6,
    num_experts: 8,
    max_position_embeddings: 256,
  },
  base: {
    arch: "scmoe-pos2",
    vocab_size: 8192,
    hidden_size: 512,
    intermediate_size: 2048,
    num_attention_heads: 8,
    num_hidden_layers: 8,
    num_experts: 8,
    max_position_embeddings: 1024,
  },
  "gpt2-moe-small": {
    arch: "scmoe-pos2",
    vocab_size: 50257,
    hidden_size: 768,
    intermediate_size: 3072,
    num_attention_heads: 12,
    num_hidden_layers: 12,
    num_experts: 8,
    max_position_embeddings: 1024,
    capacity_factor: 2,
  },
  "gpt2-moe-medium": {
    arch: "scmoe-pos2",
    vocab_size: 50257,
    hidden_size: 1024,
    intermediate_size: 4096,
    num_attention_heads: 16,
    num_hidden_layers: 24,
    num_experts: 16,
    max_position_embeddings: 2048,
    capacity_factor: 2,
  },
  "gpt3-moe-xl": {
    arch: "scmoe-pos2",
    vocab_size: 50257,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_attention_heads: 32,
    num_hidden_layers: 24,
    num_experts: 8,
    max_position_embeddings: 2048,
    capacity_factor: 2,
  },
  "llama2-moe": {
    arch: "scmoe-pos1",
    style: "llama",
    vocab_size: 32000,
    hidden_size: 2048,
    intermediate_size: 5376,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    num_hidden_layers: 24,
    num_experts: 8,
    moe_layer_interval: 1,
    max_position_embeddings: 2048,
    capacity_factor: 2,
  },
};

/**
 * The model of a name.
 * @throws InputError with a suggestion when there is no such preset
 */
export function preset(name: string): ModelInput {
  if (Object.hasOwn(PRESETS, name)) return PRESETS[name];
  const near = didYouMean(name, Object.keys(PRESETS));
  throw new InputError(
    `Unknown preset "${name}"${near ? `: did you mean "${near}"?` : ""} (known: ${Object.keys(PRESETS).join(", ")})`,
  );
}
