/** Latent attention in published configs. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";

/** Sizes of DeepSeek-V2 and -V3 and LongCat-Flash, where keys are missing. */
const MISSING = {
  q_lora_rank: 1536,
  kv_lora_rank: 512,
  qk_nope_head_dim: 128,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
} as const;

/** @throws InputError where keys and values are of fewer heads than queries */
export function readLatent(keys: ConfigKeys, heads: number) {
  const rope = keys.count("qk_rope_head_dim", MISSING.qk_rope_head_dim);
  const nope = keys.count("qk_nope_head_dim", MISSING.qk_nope_head_dim);
  keys.only("num_key_value_heads", heads, null);
  keys.only("qk_head_dim", nope + rope, null);
  // What it is called in the rope formulas, or left over.
  keys.ignore("head_dim");
  const bias = keys.flag("attention_bias", false);
  return {
    attention: "latent",
    num_key_value_heads: heads,
    attention_bias: bias,
    attention_out_bias: bias,
    q_lora_rank: keys.countOrNull("q_lora_rank", MISSING.q_lora_rank),
    kv_lora_rank: keys.count("kv_lora_rank", MISSING.kv_lora_rank),
    qk_nope_head_dim: nope,
    qk_rope_head_dim: rope,
    v_head_dim: keys.count("v_head_dim", MISSING.v_head_dim),
  } satisfies Partial<ModelInput>;
}

export function writeLatent(config: ModelConfig): Record<string, unknown> {
  return {
    num_key_value_heads: config.num_attention_heads,
    attention_bias: config.attention_bias,
    q_lora_rank: config.q_lora_rank ?? null,
    kv_lora_rank: config.kv_lora_rank,
    qk_nope_head_dim: config.qk_nope_head_dim,
    qk_rope_head_dim: config.qk_rope_head_dim,
    // What transformers takes for its rope formulas.
    head_dim: config.qk_rope_head_dim,
    v_head_dim: config.v_head_dim,
  };
}
