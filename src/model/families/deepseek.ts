/** DeepSeek-V2, DeepSeek-V3, and Instella-MoE, which says that it is the latter. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";
import type { Family } from "./family.js";
import { readLatent, writeLatent } from "./latent.js";
import { EXPERTS, moeLayers, renormalized, renormalizes } from "./router-keys.js";
import { type Defaults, readSizes, writeSizes } from "./sizes.js";
import type { TensorNames } from "./tensor-names.js";
import { refuseWindows } from "./windows.js";

const V2: Defaults = {
  vocab_size: 102_400,
  hidden_size: 4096,
  intermediate_size: 11_008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-6,
  rope_theta: 1e4,
};
const V3: Defaults = {
  vocab_size: 129_280,
  hidden_size: 7168,
  intermediate_size: 18_432,
  num_hidden_layers: 61,
  num_attention_heads: 128,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-6,
  rope_theta: 1e4,
};

const TENSORS: TensorNames = {
  names: {
    "mlp.gate.selection_bias": "mlp.gate.e_score_correction_bias",
    "mlp.shared_expert.gate_proj.weight": "mlp.shared_experts.gate_proj.weight",
    "mlp.shared_expert.up_proj.weight": "mlp.shared_experts.up_proj.weight",
    "mlp.shared_expert.down_proj.weight": "mlp.shared_experts.down_proj.weight",
  },
  fused: "mlp.experts",
};

interface MoeDefaults {
  readonly k?: number;
  readonly experts: number;
  readonly width: number;
  readonly shared: number;
  readonly dense: number;
  readonly scaling: number;
}

/** Experts after the leading dense layers, with shared ones that are one MLP. */
function readMoe(
  keys: ConfigKeys,
  layers: number,
  missing: MoeDefaults,
  arch = (k: number, hasShared: boolean): string => `${hasShared ? "shared" : "top"}${k}`,
): Pick<ModelInput, "arch"> & Partial<ModelInput> {
  keys.only("moe_layer_freq", 1);
  const k = keys.count("num_experts_per_tok", missing.k);
  const first = keys.count("first_k_dense_replace", missing.dense, { from: 0 });
  const width = keys.count("moe_intermediate_size", missing.width);
  const shared = keys.countOrNull("n_shared_experts", missing.shared, { from: 0 }) ?? 0;
  const num_experts = keys.count(EXPERTS, missing.experts);
  const routed_scaling_factor = keys.real("routed_scaling_factor", missing.scaling);
  const dense = Array.from({ length: Math.min(first, layers) }, (_, i) => i);
  const moe = moeLayers(layers, { interval: 1, dense });
  if (moe === undefined) return { arch: "dense" };
  return {
    arch: arch(k, shared > 0),
    num_experts,
    moe_intermediate_size: width,
    routed_scaling_factor,
    ...moe,
    ...(shared > 0
      ? { shared_expert_intermediate_size: shared * width, coefficient_gate: "none" as const }
      : {}),
  };
}

/** Groups of experts; null and 1 are none. */
function readGroups(
  keys: ConfigKeys,
  missing: { readonly count: number | null; readonly kept: number | null },
): Partial<ModelInput> {
  const count = keys.countOrNull("n_group", missing.count) ?? 1;
  const kept = keys.countOrNull("topk_group", missing.kept) ?? count;
  return count === 1 ? {} : { expert_groups: count, expert_groups_kept: kept };
}

function writeMoe(config: ModelConfig): Record<string, unknown> {
  const { moe_intermediate_size: width, num_hidden_layers: layers, architecture: arch } = config;
  return {
    num_experts_per_tok: Math.max(1, config.topK),
    first_k_dense_replace: arch.routed === "none" ? layers : config.dense_layers.length,
    n_routed_experts: config.num_experts,
    n_shared_experts: arch.sharedExpert ? config.shared_expert_intermediate_size / width : null,
    moe_intermediate_size: width,
    routed_scaling_factor: config.routed_scaling_factor,
    n_group: config.expert_groups,
    topk_group: config.expert_groups_kept,
  };
}

export const deepseekV2: Family = {
  name: "deepseek_v2",
  title: "DeepSeek-V2",
  architectures: ["DeepseekV2ForCausalLM"],
  modelType: "deepseek_v2",
  tensors: TENSORS,
  hasF32Gates: true,
  read(keys) {
    const sizes = readSizes(keys, V2);
    refuseWindows(keys, sizes.num_hidden_layers);
    keys.only("scoring_func", "softmax");
    keys.only("topk_method", "greedy", "group_limited_greedy");
    keys.only("mlp_bias", false, null);
    keys.only("rope_interleave", true);
    // The weights are the scores as they are, whatever it says.
    keys.ignore("norm_topk_prob");
    const groups = readGroups(keys, { count: null, kept: null });
    return {
      ...sizes,
      ...readLatent(keys, sizes.num_attention_heads),
      rope_pairs: "neighbours",
      ...readMoe(keys, sizes.num_hidden_layers, {
        experts: 64,
        width: 1407,
        shared: 2,
        dense: 0,
        scaling: 1,
      }),
      norm_topk_prob: false,
      balance: "aux",
      router_aux_loss_coef: 0,
      expert_group_score: "best",
      ...(keys.value("topk_method") === "group_limited_greedy" ? groups : {}),
    };
  },
  write: (config) => ({
    ...writeSizes(config),
    ...writeLatent(config),
    ...writeMoe(config),
    topk_method: config.expert_groups > 1 ? "group_limited_greedy" : "greedy",
    norm_topk_prob: false,
    mlp_bias: false,
  }),
};

function readV3(keys: ConfigKeys, arch?: (k: number, hasShared: boolean) => string): ModelInput {
  const sizes = readSizes(keys, V3);
  refuseWindows(keys, sizes.num_hidden_layers);
  keys.only("scoring_func", "sigmoid");
  keys.only("topk_method", "noaux_tc");
  const missing = { k: 8, experts: 256, width: 2048, shared: 1, dense: 3, scaling: 2.5 };
  return {
    ...sizes,
    ...readLatent(keys, sizes.num_attention_heads),
    rope_pairs: keys.flag("rope_interleave", true) ? "neighbours" : "halves",
    ...readMoe(keys, sizes.num_hidden_layers, missing, arch),
    router_scores: "sigmoid",
    norm_topk_prob: renormalized(keys.flag("norm_topk_prob", true)),
    balance: "bias",
    ...readGroups(keys, { count: 8, kept: 4 }),
    expert_group_score: "two_best",
  };
}

function writeV3(config: ModelConfig): Record<string, unknown> {
  return {
    ...writeSizes(config),
    ...writeLatent(config),
    ...writeMoe(config),
    scoring_func: "sigmoid",
    topk_method: "noaux_tc",
    norm_topk_prob: renormalizes(config),
    rope_interleave: config.rope_pairs === "neighbours",
    num_nextn_predict_layers: 0,
  };
}

export const deepseekV3: Family = {
  name: "deepseek_v3",
  title: "DeepSeek-V3",
  architectures: ["DeepseekV3ForCausalLM"],
  betrayal: { tensor: "model.layers.0.self_attn.gate_proj.weight", family: "InstellaMoEForCausalLM" },
  modelType: "deepseek_v3",
  tensors: TENSORS,
  hasF32Gates: true,
  read: (keys) => readV3(keys),
  write: writeV3,
};

/** DeepSeek-V3's parts, wired as FarSkip, with a gate on attention's output. Its `model_type` says only the former. */
export const instellaMoe: Family = {
  name: "instella_moe",
  title: "Instella-MoE",
  architectures: ["InstellaMoEForCausalLM"],
  spelling: /^instella_?moe/i,
  modelType: "deepseek_v3",
  hasOwnType: false,
  tensors: TENSORS,
  hasF32Gates: true,
  read(keys) {
    const k = (count: number, hasShared: boolean): string =>
      hasShared
        ? `farskip${count}`
        : keys.refuse("n_shared_experts", keys.value("n_shared_experts"), "at least 1");
    return { ...readV3(keys, k), attention_gate: true, dense_reads: "before" };
  },
  write: writeV3,
};
