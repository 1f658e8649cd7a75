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

/** What all sizes of LongCat-Flash have in common. */
const LONGCAT = {
  style: "llama",
  attention: "latent",
  latent_scale: true,
  rope_pairs: "neighbours",
} satisfies Partial<ModelInput>;

/**
 * Sizes by name. The paper's four language models (method 11.2), LongCat-Flash, and small ones that train in minutes on two cores.
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
  // Two blocks are what its config calls a layer.
  "longcat-flash": {
    ...LONGCAT,
    arch: "longcat12",
    vocab_size: 131_072,
    hidden_size: 6144,
    intermediate_size: 12_288,
    moe_intermediate_size: 2048,
    num_attention_heads: 64,
    num_hidden_layers: 56,
    num_experts: 512,
    num_zero_experts: 256,
    routed_scaling_factor: 6,
    max_position_embeddings: 131_072,
    q_lora_rank: 1536,
    kv_lora_rank: 512,
    qk_nope_head_dim: 128,
    qk_rope_head_dim: 64,
    v_head_dim: 128,
    rope_theta: 1e7,
  },
  "tiny-longcat": {
    ...LONGCAT,
    arch: "longcat3",
    vocab_size: 2048,
    hidden_size: 128,
    intermediate_size: 256,
    moe_intermediate_size: 128,
    num_attention_heads: 4,
    num_hidden_layers: 4,
    num_experts: 8,
    num_zero_experts: 4,
    routed_scaling_factor: 2,
    max_position_embeddings: 128,
    q_lora_rank: 64,
    kv_lora_rank: 32,
    qk_nope_head_dim: 32,
    qk_rope_head_dim: 16,
    v_head_dim: 32,
    initializer_range: 0.04,
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
