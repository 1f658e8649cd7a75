/** The parts a model consists of, as its config says: names, shapes, parameters. Wirings connect them. */
import { latentWidths } from "./attention-keys.js";
import { type ModelConfig, isMoeBlock } from "./config.js";
import { attention } from "./parts/attention.js";
import { type Embedding, embedding } from "./parts/embedding.js";
import { type FeedForwardShape, experts, mlp } from "./parts/feed-forward.js";
import { type GatePart, gate } from "./parts/gate.js";
import { head } from "./parts/head.js";
import { type NormShape, normParameters } from "./parts/norm.js";
import { latentAttention } from "./parts/latent-attention.js";
import type { ParameterInfo, Part } from "./parts/part.js";
import type { Residual } from "./parts/residual.js";
import { sharedExpert } from "./parts/shared-expert.js";

/** The MoE sub-layer of a block. */
export interface MoeParts {
  readonly gate: GatePart;
  readonly experts: Part;
  readonly numExperts: number;
  readonly shared?: Part<[residual?: Residual]>;
}

/** One transformer block. */
export interface BlockParts {
  readonly attention: ReturnType<typeof attention>;
  /** One of the two. */
  readonly mlp?: Part<[residual?: Residual]>;
  readonly moe?: MoeParts;
  /** In storage order. */
  readonly parameters: readonly ParameterInfo[];
}

/** A whole model. */
export interface ModelStructure {
  readonly embedding: Embedding;
  readonly blocks: readonly BlockParts[];
  readonly head: ReturnType<typeof head>;
}

/** The parts of a resolved model. */
export function structureOf(config: ModelConfig): ModelStructure {
  const { hidden_size: width, vocab_size: vocabulary } = config;
  const isGpt = config.style === "gpt";
  const names = { table: "model.embed_tokens.weight", positions: "model.embed_positions.weight" };
  return {
    embedding: embedding(
      {
        vocabulary,
        width,
        positions: isGpt ? config.max_position_embeddings : undefined,
        padding: config.padding_token ?? undefined,
      },
      names,
    ),
    blocks: Array.from({ length: config.num_hidden_layers }, (_, layer) => blockParts(config, layer)),
    head: head(
      { norm: normShape(config), vocabulary },
      { norm: "model.norm", matrix: config.tie_word_embeddings ? names.table : "lm_head.weight" },
    ),
  };
}

function normShape({ style, hidden_size: width, norm_eps: eps }: ModelConfig): NormShape {
  return { kind: style === "gpt" ? "layer" : "rms", width, eps };
}

function feedForwardShape({ style, hidden_size: width }: ModelConfig, inner: number): FeedForwardShape {
  return style === "gpt"
    ? { width, inner, kind: "gelu", bias: true }
    : { width, inner, kind: "swiglu", bias: false };
}

const blockName = (layer: number): string => `model.layers.${layer}`;
const mlpNorm = (layer: number): string => `${blockName(layer)}.post_attention_layernorm`;

function attentionOf(config: ModelConfig, layer: number): BlockParts["attention"] {
  const name = blockName(layer);
  const names = { attention: `${name}.self_attn`, norm: `${name}.input_layernorm` };
  const { sliding_window: window, sliding_window_layers: windowed } = config;
  const frame = {
    width: config.hidden_size,
    heads: config.num_attention_heads,
    norm: normShape(config),
    bias: config.attention_bias,
    outBias: config.attention_out_bias,
    gate: config.attention_gate,
    window: windowed === undefined || windowed.includes(layer) ? (window ?? undefined) : undefined,
  };
  const rope = {
    theta: config.rope_theta,
    scaling: config.rope_scaling ?? undefined,
    pairs: config.rope_pairs,
  };
  const latent = latentWidths(config);
  if (latent !== undefined)
    return latentAttention({ ...frame, ...latent, scaled: config.latent_scale, rope }, names);
  const { query_key_norm: queryKeyNorm } = config;
  return attention(
    {
      ...frame,
      kvHeads: config.num_key_value_heads,
      headDim: config.headDim,
      queryKeyNorm: queryKeyNorm === "none" ? undefined : queryKeyNorm,
      clip: config.clip_qkv ?? undefined,
      rope: config.style === "gpt" ? undefined : rope,
    },
    names,
  );
}

function blockParts(config: ModelConfig, layer: number): BlockParts {
  const norm = normShape(config);
  const name = blockName(layer);
  const attentionPart = attentionOf(config, layer);
  if (!isMoeBlock(config, layer)) {
    const dense = mlp(
      { ...feedForwardShape(config, config.intermediate_size), norm },
      { mlp: `${name}.mlp`, norm: mlpNorm(layer) },
    );
    return {
      attention: attentionPart,
      mlp: dense,
      parameters: [...attentionPart.parameters, ...dense.parameters],
    };
  }
  const moe = moeParts(config, layer);
  const parameters = [
    ...attentionPart.parameters,
    ...normParameters(mlpNorm(layer), norm),
    ...moe.gate.parameters,
    ...moe.experts.parameters,
    ...(moe.shared?.parameters ?? []),
  ];
  return { attention: attentionPart, moe, parameters };
}

function moeParts(config: ModelConfig, layer: number): MoeParts {
  const norm = normShape(config);
  const moe = `${blockName(layer)}.mlp`;
  const owner = `${blockName(moeOwner(config, layer))}.mlp`;
  const { num_experts: numExperts } = config;
  const { sharedExpert: hasShared } = config.architecture;
  return {
    numExperts,
    gate: gate(
      {
        norm,
        numLogits: numExperts + config.num_zero_experts,
        noise: config.gate_noise,
        selectionBias: config.balance === "bias",
      },
      { gate: `${owner}.gate`, norm: gateNorm(config, layer) },
    ),
    experts: experts(
      feedForwardShape(config, config.moe_intermediate_size),
      `${owner}.experts.{e}`,
      numExperts,
    ),
    shared: hasShared
      ? sharedExpert(
          {
            norm,
            feedForward: feedForwardShape(config, config.shared_expert_intermediate_size),
            coefficients: config.coefficient_gate,
          },
          { moe, norm: mlpNorm(layer) },
        )
      : undefined,
  };
}

/**
 * The norm in front of the gate. Rows from a shortcut go through a norm of its own, or through the preceding block's
 * (`shortcut_norm: reuse`); rows of the current block through its second norm.
 */
function gateNorm(config: ModelConfig, layer: number): string {
  if (config.architecture.routed !== "shortcut") return mlpNorm(layer);
  return config.shortcut_norm === "own"
    ? `${blockName(layer)}.mlp.shortcut_layernorm`
    : mlpNorm(Math.max(0, layer - 1));
}

/** The layer whose gate and experts this MoE block uses: itself, or the first of its group (DGMoE-Share). */
function moeOwner(
  { architecture: { shareMoe: group = 1 }, moe_layer_interval: interval }: ModelConfig,
  layer: number,
): number {
  const index = (layer - (interval - 1)) / interval;
  return Math.floor(index / group) * group * interval + (interval - 1);
}
