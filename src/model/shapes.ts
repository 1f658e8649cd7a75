/** The shapes of a model's parts, as its config says. */
import type { ModelConfig } from "./config.js";
import type { AttentionShape } from "./kernels/attention.js";
import type { GateShape } from "./kernels/gate.js";
import type { HeadShape } from "./kernels/head.js";
import type { FeedForwardShape, SharedExpertShape } from "./kernels/mlp.js";
import type { NormShape } from "./kernels/norm.js";

export interface ModelShapes {
  /** Before every part; all are alike. */
  readonly norm: NormShape;
  readonly attention: AttentionShape;
  readonly mlp: FeedForwardShape;
  readonly gate: GateShape;
  readonly shared: SharedExpertShape;
  readonly expert: FeedForwardShape;
  readonly head: HeadShape;
}

export function modelShapes(config: ModelConfig): ModelShapes {
  const gpt = config.style === "gpt";
  const width = config.hidden_size;
  const norm: NormShape = { kind: gpt ? "layer" : "rms", width, eps: config.norm_eps };
  const feedForward = (inner: number): FeedForwardShape => ({
    width,
    inner,
    kind: gpt ? "gelu" : "swiglu",
    bias: gpt,
  });
  return {
    norm,
    attention: {
      width,
      heads: config.num_attention_heads,
      kvHeads: config.num_key_value_heads,
      headDim: config.headDim,
      bias: config.attention_bias,
      outBias: gpt,
      norm,
      rope: gpt ? undefined : { theta: config.rope_theta },
    },
    mlp: feedForward(config.intermediate_size),
    gate: { norm, experts: config.num_experts, noise: config.gate_noise },
    shared: {
      norm,
      feedForward: feedForward(config.shared_expert_intermediate_size),
      coefficients: config.coefficient_gate,
    },
    expert: feedForward(config.moe_intermediate_size),
    head: { norm, vocabulary: config.vocab_size },
  };
}
