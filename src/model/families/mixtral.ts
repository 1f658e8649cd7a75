import type { Family } from "./family.js";
import { readGrouped, writeGrouped } from "./grouped.js";
import { EXPERTS, readAuxiliary, writeAuxiliary } from "./router-keys.js";
import { type Defaults, readSizes, writeSizes } from "./sizes.js";
import { WINDOWS, readWindows, writeWindows } from "./windows.js";

const DEFAULTS: Defaults = {
  vocab_size: 32_000,
  hidden_size: 4096,
  intermediate_size: 14_336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  max_position_embeddings: 131_072,
  rms_norm_eps: 1e-5,
  rope_theta: 1e6,
};

/** Every block has experts, and kept scores are always renormalised. */
export const mixtral: Family = {
  name: "mixtral",
  title: "Mixtral",
  architectures: ["MixtralForCausalLM"],
  modelType: "mixtral",
  tensors: {
    names: {
      "mlp.gate.weight": "block_sparse_moe.gate.weight",
      "mlp.experts.{e}.gate_proj.weight": "block_sparse_moe.experts.{e}.w1.weight",
      "mlp.experts.{e}.up_proj.weight": "block_sparse_moe.experts.{e}.w3.weight",
      "mlp.experts.{e}.down_proj.weight": "block_sparse_moe.experts.{e}.w2.weight",
    },
    others: { "mlp.gate.weight": "mlp.gate.weight" },
    fused: "mlp.experts",
  },
  read(keys) {
    const sizes = readSizes(keys, DEFAULTS);
    return {
      arch: `top${keys.count("num_experts_per_tok", 2)}`,
      ...sizes,
      ...readGrouped(keys, sizes.num_attention_heads, { kvHeads: 8 }),
      ...readWindows(keys, sizes.num_hidden_layers, WINDOWS.mixtral),
      ...readAuxiliary(keys, 0.001),
      attention_bias: false,
      attention_out_bias: false,
      num_experts: keys.count(EXPERTS, 8),
      moe_layer_interval: 1,
      norm_topk_prob: "always",
    };
  },
  write: (config) => ({
    ...writeSizes(config),
    intermediate_size: config.moe_intermediate_size,
    ...writeGrouped(config),
    ...writeWindows(config, { hasSwitch: false, isListed: false }),
    ...writeAuxiliary(config),
    num_local_experts: config.num_experts,
    num_experts_per_tok: config.topK,
  }),
};
