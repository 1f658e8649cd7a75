/** Which tensors (by Hugging Face name) each kernel parameter of `model/kernels` reads. */
import type { ParameterSpan } from "../program/kinds.js";
import type { ModelConfig } from "./config.js";
import { moeOwner } from "./parameters.js";

type Spans = Record<string, ParameterSpan>;

const block = (layer: number) => `model.layers.${layer}`;

function normSpans(config: ModelConfig, name: string): Spans {
  const spans: Spans = { ln_w: [`${name}.weight`] };
  if (config.style === "gpt") spans.ln_b = [`${name}.bias`];
  return spans;
}

function feedForwardSpans(config: ModelConfig, prefix: string): Spans {
  if (config.style === "llama")
    return {
      in_w: [`${prefix}.gate_proj.weight`, `${prefix}.up_proj.weight`],
      out_w: [`${prefix}.down_proj.weight`],
    };
  return {
    in_w: [`${prefix}.up_proj.weight`],
    in_b: [`${prefix}.up_proj.bias`],
    out_w: [`${prefix}.down_proj.weight`],
    out_b: [`${prefix}.down_proj.bias`],
  };
}

export function attentionSpans(config: ModelConfig, layer: number): Spans {
  const p = `${block(layer)}.self_attn`;
  const qkv = (suffix: string) => ["q", "k", "v"].map((name) => `${p}.${name}_proj.${suffix}`);
  const spans: Spans = {
    ...normSpans(config, `${block(layer)}.input_layernorm`),
    qkv_w: qkv("weight"),
    o_w: [`${p}.o_proj.weight`],
  };
  if (config.attention_bias) spans.qkv_b = qkv("bias");
  if (config.style === "gpt") spans.o_b = [`${p}.o_proj.bias`];
  return spans;
}

export function mlpSpans(config: ModelConfig, layer: number): Spans {
  return {
    ...normSpans(config, `${block(layer)}.post_attention_layernorm`),
    ...feedForwardSpans(config, `${block(layer)}.mlp`),
  };
}

export function sharedExpertSpans(config: ModelConfig, layer: number): Spans {
  const spans: Spans = {
    ...normSpans(config, `${block(layer)}.post_attention_layernorm`),
    ...feedForwardSpans(config, `${block(layer)}.mlp.shared_expert`),
  };
  if (config.coefficient_gate !== "none") spans.coef_w = [`${block(layer)}.mlp.shared_expert_gate.weight`];
  return spans;
}

/** The gate reads a shortcut through its own norm, the preceding block's (reuse), or this block's (current layer). */
export function gateSpans(
  config: ModelConfig,
  layer: number,
  source: "current" | "shortcut",
  noise: boolean,
): Spans {
  const owner = moeOwner(config, layer);
  let name = `${block(layer)}.post_attention_layernorm`;
  if (source === "shortcut")
    name =
      config.shortcut_norm === "own"
        ? `${block(layer)}.mlp.shortcut_layernorm`
        : `${block(Math.max(0, layer - 1))}.post_attention_layernorm`;
  const spans: Spans = { ...normSpans(config, name), gate_w: [`${block(owner)}.mlp.gate.weight`] };
  if (noise) spans.noise_w = [`${block(owner)}.mlp.gate.noise.weight`];
  return spans;
}

/** "{e}" stands for the expert's index. */
export function expertSpans(config: ModelConfig, layer: number): Spans {
  return feedForwardSpans(config, `${block(moeOwner(config, layer))}.mlp.experts.{e}`);
}

export function selectionBias(config: ModelConfig, layer: number): string | undefined {
  return config.balance === "bias" ? `${block(moeOwner(config, layer))}.mlp.gate.selection_bias` : undefined;
}

export function headSpans(config: ModelConfig): Spans {
  return {
    ...normSpans(config, "model.norm"),
    head_w: [config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"],
  };
}
