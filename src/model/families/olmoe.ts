import type { Family } from "./family.js";
import { readBiases, readGrouped, writeGrouped } from "./grouped.js";
import { EXPERTS, readAuxiliary, renormalized, renormalizes, writeAuxiliary } from "./router-keys.js";
import { type Defaults, readSizes, writeSizes } from "./sizes.js";
import { refuseWindows } from "./windows.js";

const DEFAULTS: Defaults = {
  vocab_size: 50_304,
  hidden_size: 2048,
  intermediate_size: 2048,
  num_hidden_layers: 16,
  num_attention_heads: 16,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  rope_theta: 1e4,
  pad_token_id: 1,
};

/** Every block has experts, of width `intermediate_size`; queries and keys are normalised before they are split into heads. */
export const olmoe: Family = {
  name: "olmoe",
  title: "OLMoE",
  architectures: ["OlmoeForCausalLM"],
  modelType: "olmoe",
  tensors: { names: {}, fused: "mlp.experts" },
  read(keys) {
    const sizes = readSizes(keys, DEFAULTS);
    refuseWindows(keys, sizes.num_hidden_layers);
    const clip = keys.value("clip_qkv") ?? null;
    return {
      arch: `top${keys.count("num_experts_per_tok", 8)}`,
      ...sizes,
      ...readGrouped(keys, sizes.num_attention_heads, { kvHeads: "heads" }),
      ...readBiases(keys),
      ...readAuxiliary(keys, 0.01),
      query_key_norm: "projection",
      clip_qkv: clip === null ? null : keys.real("clip_qkv"),
      num_experts: keys.count(EXPERTS, 64),
      moe_layer_interval: 1,
      norm_topk_prob: renormalized(keys.flag("norm_topk_prob", false)),
    };
  },
  write: (config) => ({
    ...writeSizes(config),
    intermediate_size: config.moe_intermediate_size,
    ...writeGrouped(config),
    ...writeAuxiliary(config),
    attention_bias: config.attention_bias,
    clip_qkv: config.clip_qkv,
    num_experts: config.num_experts,
    num_experts_per_tok: config.topK,
    norm_topk_prob: renormalizes(config),
  }),
};
