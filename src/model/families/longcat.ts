import type { ModelInput } from "../config.js";
import type { Family } from "./family.js";
import { readLatent, writeLatent } from "./latent.js";
import { EXPERTS } from "./router-keys.js";
import { type Defaults, readSizes, writeSizes } from "./sizes.js";
import { refuseWindows } from "./windows.js";

const DEFAULTS: Defaults = {
  vocab_size: 131_072,
  hidden_size: 6144,
  intermediate_size: 12_288,
  num_hidden_layers: 28,
  num_attention_heads: 64,
  max_position_embeddings: 131_072,
  rms_norm_eps: 1e-5,
  rope_theta: 1e7,
};

/** Names of a block's tensors that its layer has twice. */
const TWICE = [
  "input_layernorm.weight",
  "post_attention_layernorm.weight",
  ...["q_a_proj", "q_a_layernorm", "q_b_proj", "q_proj", "kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj"]
    .concat("o_proj")
    .flatMap((name) => [`self_attn.${name}.weight`, `self_attn.${name}.bias`]),
];

const MLP = ["gate_proj", "up_proj", "down_proj"];

/**
 * A layer is two blocks here: the first with its dense MLP, the second with the experts, which read what the first MLP reads,
 * and with the other dense MLP as shared expert.
 */
export const longcatFlash: Family = {
  name: "longcat_flash",
  title: "LongCat-Flash",
  architectures: ["LongcatFlashForCausalLM"],
  modelType: "longcat_flash",
  tensors: {
    blocksPerLayer: 2,
    fused: "mlp.experts",
    names: {
      ...Object.fromEntries(TWICE.map((name) => [name, name.replace(".", ".{j}.")])),
      ...Object.fromEntries(
        MLP.flatMap((part) => [
          [`mlp.${part}.weight`, `mlps.0.${part}.weight`],
          [`mlp.shared_expert.${part}.weight`, `mlps.1.${part}.weight`],
        ]),
      ),
      "mlp.gate.weight": "mlp.router.classifier.weight",
      "mlp.gate.selection_bias": "mlp.router.e_score_correction_bias",
    },
  },
  read(keys): ModelInput {
    const sizes = readSizes(keys, DEFAULTS, {
      width: ["ffn_hidden_size", "intermediate_size"],
      layers: ["num_layers"],
    });
    const layers = sizes.num_hidden_layers;
    // Some tools write the number of attentions.
    keys.only("num_hidden_layers", layers, 2 * layers);
    refuseWindows(keys, layers);
    keys.only("zero_expert_type", "identity");
    keys.only("router_bias", false, null);
    keys.only("attention_method", "MLA");
    // Always so, whatever they say.
    keys.ignore("mla_scale_q_lora", "mla_scale_kv_lora", "norm_topk_prob");
    const { intermediate_size } = sizes;
    return {
      arch: "longcat",
      ...sizes,
      num_hidden_layers: 2 * layers,
      ...readLatent(keys, sizes.num_attention_heads),
      rope_pairs: "neighbours",
      latent_scale: true,
      shared_expert_intermediate_size: intermediate_size,
      moe_intermediate_size: keys.count(["expert_ffn_hidden_size", "moe_intermediate_size"], 2048),
      num_experts: keys.count(EXPERTS, 512),
      num_zero_experts: keys.countOrNull("zero_expert_num", 256, { from: 0 }) ?? 0,
      num_experts_per_tok: keys.count(["moe_topk", "num_experts_per_tok"], 12),
      moe_layer_interval: 2,
      coefficient_gate: "none",
      shortcut_norm: "reuse",
      norm_topk_prob: false,
      routed_scaling_factor: keys.real("routed_scaling_factor", 6),
      balance: "bias",
    };
  },
  write(config) {
    const { intermediate_size, num_hidden_layers, ...sizes } = writeSizes(config);
    return {
      ...sizes,
      num_layers: Number(num_hidden_layers) / 2,
      ffn_hidden_size: intermediate_size,
      expert_ffn_hidden_size: config.moe_intermediate_size,
      ...writeLatent(config),
      n_routed_experts: config.num_experts,
      zero_expert_num: config.num_zero_experts,
      zero_expert_type: "identity",
      moe_topk: config.topK,
      routed_scaling_factor: config.routed_scaling_factor,
      router_bias: false,
    };
  },
};
