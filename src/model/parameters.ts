/**
 * The tensors of a model by Hugging Face name, in storage order. Tensors that one kernel reads as a single matrix
 * (q, k, v; gate and up projection) lie next to each other, so a span of names is one view.
 */
import { type ModelConfig, isMoeBlock } from "./config.js";

export interface ParameterInfo {
  readonly name: string;
  readonly dims: readonly number[];
  /** Sharded over expert-parallel ranks by `expert`, or replicated. */
  readonly expert?: number;
  readonly init: "normal" | "zeros" | "ones";
  /** Not trained by gradients (the selection bias of bias-based balancing). */
  readonly buffer?: boolean;
}

export function listParameters(config: ModelConfig): readonly ParameterInfo[] {
  const list: ParameterInfo[] = [];
  const D = config.hidden_size;
  const bias = config.style === "gpt";
  const add = (name: string, dims: readonly number[], init: ParameterInfo["init"], expert?: number) =>
    list.push({ name, dims, init, expert });
  const norm = (name: string) => {
    add(`${name}.weight`, [D], "ones");
    if (bias) add(`${name}.bias`, [D], "zeros");
  };
  /** All matrices first, then all biases: neighbours form one fused matrix and one fused bias. */
  const linears = (prefix: string, items: [string, number, number][], withBias: boolean, expert?: number) => {
    for (const [name, out, inn] of items) add(`${prefix}.${name}.weight`, [out, inn], "normal", expert);
    if (withBias) for (const [name, out] of items) add(`${prefix}.${name}.bias`, [out], "zeros", expert);
  };
  const mlp = (prefix: string, width: number, expert?: number) => {
    const inward: [string, number, number][] =
      config.style === "gpt"
        ? [["up_proj", width, D]]
        : [
            ["gate_proj", width, D],
            ["up_proj", width, D],
          ];
    linears(prefix, inward, bias, expert);
    linears(prefix, [["down_proj", D, width]], bias, expert);
  };

  add("model.embed_tokens.weight", [config.vocab_size, D], "normal");
  if (config.style === "gpt")
    add("model.embed_positions.weight", [config.max_position_embeddings, D], "normal");
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const p = `model.layers.${layer}`;
    const heads = config.num_attention_heads * config.headDim;
    const kv = config.num_key_value_heads * config.headDim;
    norm(`${p}.input_layernorm`);
    linears(
      `${p}.self_attn`,
      [
        ["q_proj", heads, D],
        ["k_proj", kv, D],
        ["v_proj", kv, D],
      ],
      config.attention_bias,
    );
    linears(`${p}.self_attn`, [["o_proj", D, heads]], bias);
    norm(`${p}.post_attention_layernorm`);
    if (!isMoeBlock(config, layer)) {
      mlp(`${p}.mlp`, config.intermediate_size);
      continue;
    }
    if (config.architecture.routed === "shortcut" && config.shortcut_norm === "own")
      norm(`${p}.mlp.shortcut_layernorm`);
    if (moeOwner(config, layer) === layer) {
      add(`${p}.mlp.gate.weight`, [config.num_experts, D], "normal");
      if (config.gate_noise) add(`${p}.mlp.gate.noise.weight`, [config.num_experts, D], "zeros");
      if (config.balance === "bias")
        list.push({
          name: `${p}.mlp.gate.selection_bias`,
          dims: [config.num_experts],
          init: "zeros",
          buffer: true,
        });
      for (let e = 0; e < config.num_experts; e++)
        mlp(`${p}.mlp.experts.${e}`, config.moe_intermediate_size, e);
    }
    if (config.architecture.sharedExpert) {
      mlp(`${p}.mlp.shared_expert`, config.shared_expert_intermediate_size);
      if (config.coefficient_gate !== "none")
        add(`${p}.mlp.shared_expert_gate.weight`, [config.coefficient_gate === "cg1" ? 1 : 2, D], "normal");
    }
  }
  norm("model.norm");
  if (!config.tie_word_embeddings) add("lm_head.weight", [config.vocab_size, D], "normal");
  return list;
}

/** The layer whose gate and experts this MoE block uses: itself, or the first of its group (DGMoE-Share). */
export function moeOwner(config: ModelConfig, layer: number): number {
  const group = config.architecture.shareMoe ?? 1;
  const index = (layer - (config.moe_layer_interval - 1)) / config.moe_layer_interval;
  return Math.floor(index / group) * group * config.moe_layer_interval + (config.moe_layer_interval - 1);
}

/** Number of weights of a model. */
export interface ParameterCount {
  readonly total: number;
  /** Parameters one token uses: all but the routed experts it is not sent to. */
  readonly active: number;
}

export function countParameters(config: ModelConfig): ParameterCount {
  let total = 0;
  let routed = 0;
  for (const { dims, expert, buffer } of listParameters(config)) {
    if (buffer) continue;
    const size = dims.reduce((a, b) => a * b, 1);
    total += size;
    if (expert !== undefined) routed += size;
  }
  const choices = config.architecture.routed === "dual" ? 2 : config.topK;
  return { total, active: total - routed + (routed * choices) / Math.max(1, config.num_experts) };
}
