/** Qwen2-MoE and Qwen3-MoE. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";
import type { Family } from "./family.js";
import { readBiases, readGrouped, writeGrouped } from "./grouped.js";
import {
  EXPERTS,
  moeLayers,
  readAuxiliary,
  renormalized,
  renormalizes,
  writeAuxiliary,
} from "./router-keys.js";
import { type Defaults, readSizes, writeSizes } from "./sizes.js";
import { WINDOWS, readWindows, writeWindows } from "./windows.js";

const SHARED: Omit<Defaults, "num_attention_heads" | "intermediate_size"> = {
  vocab_size: 151_936,
  hidden_size: 2048,
  num_hidden_layers: 24,
  max_position_embeddings: 32_768,
  rms_norm_eps: 1e-6,
  rope_theta: 1e4,
};

interface MoeDefaults {
  readonly kind: "top" | "shared";
  readonly k: number;
  readonly experts: number;
  readonly width: number;
}

/** @returns the keys of the MoE part; `arch` is "dense" where no layer has experts */
function readMoe(keys: ConfigKeys, layers: number, missing: MoeDefaults) {
  const k = keys.count("num_experts_per_tok", missing.k);
  const interval = keys.count("decoder_sparse_step", 1);
  const moe = moeLayers(layers, { interval, dense: keys.list("mlp_only_layers") });
  const num_experts = keys.count(EXPERTS, missing.experts, { from: 0 });
  const router = {
    moe_intermediate_size: keys.count("moe_intermediate_size", missing.width),
    norm_topk_prob: renormalized(keys.flag("norm_topk_prob", false)),
    ...readAuxiliary(keys, 0.001),
  };
  return moe === undefined || num_experts === 0
    ? { arch: "dense" }
    : { arch: `${missing.kind}${k}`, num_experts, ...moe, ...router };
}

function writeMoe(config: ModelConfig): Record<string, unknown> {
  const isDense = config.architecture.routed === "none";
  const layers = [...Array(config.num_hidden_layers).keys()];
  return {
    ...writeAuxiliary(config),
    num_experts_per_tok: Math.max(1, config.topK),
    decoder_sparse_step: config.moe_layer_interval,
    mlp_only_layers: isDense ? layers : config.dense_layers,
    moe_intermediate_size: config.moe_intermediate_size,
    norm_topk_prob: renormalizes(config),
  };
}

export const qwen2Moe: Family = {
  name: "qwen2_moe",
  title: "Qwen2-MoE",
  architectures: ["Qwen2MoeForCausalLM"],
  modelType: "qwen2_moe",
  tensors: { names: {}, fused: "mlp.experts" },
  read(keys): ModelInput {
    const sizes = readSizes(keys, { ...SHARED, num_attention_heads: 16, intermediate_size: 5632 });
    const layers = sizes.num_hidden_layers;
    const moe = readMoe(keys, layers, { kind: "shared", k: 4, experts: 60, width: 1408 });
    const sharedWidth = keys.count("shared_expert_intermediate_size", 5632);
    return {
      ...sizes,
      ...readGrouped(keys, sizes.num_attention_heads, { kvHeads: 16 }),
      ...readWindows(keys, layers, WINDOWS.evenEarly),
      attention_bias: keys.flag("qkv_bias", true),
      attention_out_bias: false,
      ...moe,
      ...(moe.arch === "dense"
        ? {}
        : { shared_expert_intermediate_size: sharedWidth, coefficient_gate: "cg1" as const }),
    };
  },
  write: (config) => ({
    ...writeSizes(config),
    ...writeGrouped(config),
    ...writeWindows(config, { hasSwitch: true, isListed: true }),
    ...writeMoe(config),
    num_experts: config.num_experts,
    shared_expert_intermediate_size: config.shared_expert_intermediate_size,
    qkv_bias: config.attention_bias,
  }),
};

export const qwen3Moe: Family = {
  name: "qwen3_moe",
  title: "Qwen3-MoE",
  architectures: ["Qwen3MoeForCausalLM"],
  modelType: "qwen3_moe",
  tensors: { names: {}, fused: "mlp.experts" },
  read(keys): ModelInput {
    const sizes = readSizes(keys, { ...SHARED, num_attention_heads: 32, intermediate_size: 6144 });
    const layers = sizes.num_hidden_layers;
    return {
      ...sizes,
      ...readGrouped(keys, sizes.num_attention_heads, { kvHeads: 4 }),
      ...readWindows(keys, layers, WINDOWS.every),
      ...readBiases(keys),
      query_key_norm: "head",
      ...readMoe(keys, layers, { kind: "top", k: 8, experts: 128, width: 768 }),
    };
  },
  write: (config) => ({
    ...writeSizes(config),
    ...writeGrouped(config),
    ...writeWindows(config, { hasSwitch: true, isListed: false }),
    ...writeMoe(config),
    num_experts: config.num_experts,
    attention_bias: config.attention_bias,
  }),
};
