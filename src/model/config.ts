import { z } from "zod";
import { BOUNDS } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { parseWith } from "../core/parse.js";
import { type Architecture, architecture } from "./architectures.js";
import { attentionKeys, checkAttention, headDimOf, ropeKeys } from "./attention-keys.js";
import { aboveZero, experts, heads, layers, upTo, width } from "./fields.js";
import { evenActive, routerKeys, whyNoRouter } from "./router-keys.js";

/**
 * A model as it is written in `config.json` (Hugging Face key names). Optional keys are resolved by `resolveModel`.
 */
export const modelSchema = z.strictObject({
  model_type: z.string().optional().describe("Free text; written by Hugging Face tools"),
  arch: z.string().describe("Architecture: dense, top2, shared, scmoe-pos2, dgmoe, farskip, …"),
  style: z
    .enum(["gpt", "llama"])
    .default("gpt")
    .describe("gpt: LayerNorm, GELU, learned positions; llama: RMSNorm, RoPE, SwiGLU"),
  vocab_size: upTo(BOUNDS.vocabulary).describe("Tokens V, at least those of the tokenizer"),
  hidden_size: width.describe("Width D"),
  intermediate_size: upTo(BOUNDS.mlpWidth).describe("Width F of dense MLPs"),
  moe_intermediate_size: upTo(BOUNDS.mlpWidth)
    .optional()
    .describe("Width of routed experts; default intermediate_size"),
  shared_expert_intermediate_size: upTo(BOUNDS.mlpWidth)
    .optional()
    .describe("Width of the shared expert; default intermediate_size"),
  num_attention_heads: heads.describe("Must divide hidden_size where head_dim is not given"),
  num_key_value_heads: heads.optional().describe("Grouped-query attention; default num_attention_heads"),
  head_dim: width.optional().describe("Width of a head; default hidden_size / num_attention_heads"),
  num_hidden_layers: upTo(BOUNDS.layers).describe("Transformer blocks"),
  num_experts: experts.default(8).describe("Routed experts per MoE block"),
  num_experts_per_tok: experts.optional().describe("k of an arch whose name has none"),
  moe_layer_interval: upTo(BOUNDS.layers)
    .default(2)
    .describe("Every n-th block is MoE, the last of each n: 2: odd blocks; 1: every block"),
  dense_layers: layers.default([]).describe("Blocks that are dense all the same"),
  max_position_embeddings: upTo(BOUNDS.positions).describe("Longest sequence"),
  capacity_factor: aboveZero
    .nullable()
    .default(null)
    .describe("Rows per expert = ceil(cf·k·T/N); null: dropless"),
  coefficient_gate: z
    .enum(["none", "cg1", "cg2"])
    .optional()
    .describe("How shared and routed terms combine; default by arch"),
  shortcut_norm: z
    .enum(["own", "reuse"])
    .optional()
    .describe("Shortcut input: a norm of its own, or the preceding block's; default by arch, mostly own"),
  ...routerKeys,
  dense_reads: z
    .enum(["after", "before"])
    .default("after")
    .describe("FarSkip: a dense MLP reads the stream after or before the block's attention"),
  tie_word_embeddings: z.boolean().optional().describe("Default true for gpt, false for llama"),
  ...attentionKeys,
  norm_eps: aboveZero.max(1).default(1e-5).describe("Added to the variance in norms"),
  ...ropeKeys,
  padding_token: z
    .number()
    .int()
    .nonnegative()
    .nullable()
    .default(null)
    .describe("Token whose embedding gets no gradient"),
  end_tokens: z
    .array(z.number().int().nonnegative().max(BOUNDS.tokenId.to))
    .optional()
    .describe("Tokens that end a text; default the tokenizer's"),
  family: z.string().optional().describe("Published family whose names an export uses; default by the parts"),
  initializer_range: aboveZero.default(0.02).describe("Standard deviation of initial matrices"),
});

/** A model as it is written: what is left out has a default. */
export type ModelInput = z.input<typeof modelSchema>;

/** A model with every default resolved and every size checked; what it has no part for stays open. */
export interface ModelConfig extends Required<
  Omit<
    z.output<typeof modelSchema>,
    | "model_type"
    | "num_experts_per_tok"
    | "family"
    | "end_tokens"
    | "balance_groups"
    | "active_experts"
    | "sliding_window_layers"
    | "q_lora_rank"
    | "kv_lora_rank"
    | "qk_nope_head_dim"
    | "qk_rope_head_dim"
    | "v_head_dim"
  >
> {
  readonly family?: string | undefined;
  readonly end_tokens?: readonly number[] | undefined;
  readonly balance_groups?: number | undefined;
  readonly active_experts?: number | undefined;
  readonly sliding_window_layers?: readonly number[] | undefined;
  readonly q_lora_rank?: number | null | undefined;
  readonly kv_lora_rank?: number | undefined;
  readonly qk_nope_head_dim?: number | undefined;
  readonly qk_rope_head_dim?: number | undefined;
  readonly v_head_dim?: number | undefined;
  readonly architecture: Architecture;
  readonly headDim: number;
  readonly topK: number;
}

/**
 * Resolves defaults and checks that the sizes fit.
 * @throws InputError naming the key, the value found and the value wanted
 */
export function resolveModel(input: unknown, where = "model config"): ModelConfig {
  const { num_experts_per_tok: givenK, model_type: _type, ...raw } = parseWith(modelSchema, input, where);
  const arch = architecture(raw.arch, givenK);
  const gpt = raw.style === "gpt";
  const attentionBias = raw.attention_bias ?? gpt;
  const fail = (text: string): never => {
    throw new InputError(`${where}: ${text}`);
  };
  checkAttention(raw, fail);
  const config: ModelConfig = {
    ...raw,
    moe_intermediate_size: raw.moe_intermediate_size ?? raw.intermediate_size,
    shared_expert_intermediate_size: raw.shared_expert_intermediate_size ?? raw.intermediate_size,
    num_key_value_heads: raw.num_key_value_heads ?? raw.num_attention_heads,
    coefficient_gate: raw.coefficient_gate ?? arch.coefficientGate,
    shortcut_norm: raw.shortcut_norm ?? arch.shortcutNorm ?? "own",
    norm_topk_prob: raw.norm_topk_prob ?? arch.renormalize ?? true,
    balance: raw.balance ?? arch.balance ?? "aux",
    balance_bias_update: raw.balance_bias_update ?? (raw.num_zero_experts > 0 ? "proportional" : "sign"),
    ...evenActive(raw, arch.topK),
    tie_word_embeddings: raw.tie_word_embeddings ?? gpt,
    attention_bias: attentionBias,
    attention_out_bias: raw.attention_out_bias ?? (raw.attention === "latent" ? attentionBias : gpt),
    expert_groups_kept: raw.expert_groups_kept ?? raw.expert_groups,
    architecture: arch,
    head_dim: headDimOf(raw),
    headDim: headDimOf(raw),
    topK: arch.topK,
  };
  const wantedK = arch.routed === "dual" ? 2 : arch.topK;
  if (arch.routed !== "none" && wantedK > config.num_experts + config.num_zero_experts)
    fail(
      `arch ${config.arch} sends each token to ${wantedK} experts, but num_experts is ${config.num_experts}`,
    );
  if (givenK !== undefined && arch.routed !== "none" && givenK !== arch.topK)
    fail(
      `num_experts_per_tok is ${givenK}, but arch ${config.arch} means ${arch.topK}; remove the key or choose another arch`,
    );
  const blocks = [...Array(config.num_hidden_layers).keys()];
  if (arch.routed !== "none" && !blocks.some((layer) => isMoeBlock(config, layer)))
    fail(
      `arch ${config.arch} has no MoE block in ${config.num_hidden_layers} layers with moe_layer_interval ${config.moe_layer_interval} and dense_layers [${config.dense_layers.join(", ")}]`,
    );
  const problem = whyNoRouter(config);
  if (problem !== undefined) fail(problem);
  if (!arch.sharedExpert && config.coefficient_gate !== "none")
    fail(
      `coefficient_gate ${config.coefficient_gate} needs a shared expert, which arch ${config.arch} does not have`,
    );
  return config;
}

/** The `config.json` of a resolved model: every key explicit, nothing derived. */
export function modelToJson(config: ModelConfig): Record<string, unknown> {
  const { architecture: arch, headDim: _headDim, topK, ...keys } = config;
  return { model_type: "scmoe", ...keys, ...(arch.routed === "none" ? {} : { num_experts_per_tok: topK }) };
}

export function isMoeBlock(config: ModelConfig, layer: number): boolean {
  if (config.architecture.routed === "none") return false;
  return (layer + 1) % config.moe_layer_interval === 0 && !config.dense_layers.includes(layer);
}
