/** The keys of a model config that say what its attention is, and what fits together. */
import { z } from "zod";
import { BOUNDS } from "../core/bounds.js";
import { shown } from "../core/shown.js";
import { aboveZero, fromZero, layers, upTo, width } from "./fields.js";

const longContext = { factor: aboveZero, original_max_position_embeddings: upTo(BOUNDS.positions) };
/** The two ways of published models to stretch RoPE. */
const ropeScaling = z.discriminatedUnion("rope_type", [
  z.strictObject({
    rope_type: z.literal("llama3"),
    ...longContext,
    low_freq_factor: aboveZero,
    high_freq_factor: aboveZero,
  }),
  z.strictObject({
    rope_type: z.literal("yarn"),
    ...longContext,
    beta_fast: aboveZero.default(32),
    beta_slow: aboveZero.default(1),
    mscale: fromZero.optional(),
    mscale_all_dim: fromZero.optional(),
    attention_factor: aboveZero.optional(),
    truncate: z.boolean().default(true),
  }),
]);

/** How RoPE is stretched to longer sequences. */
export type RopeScaling = z.output<typeof ropeScaling>;

export const attentionKeys = {
  attention_bias: z
    .boolean()
    .optional()
    .describe("Biases on q, k, v (latent: on what compresses); default true for gpt, false for llama"),
  attention_out_bias: z
    .boolean()
    .optional()
    .describe("Bias of the projection back; default true for gpt, false for llama; latent: attention_bias"),
  attention: z
    .enum(["grouped", "latent"])
    .default("grouped")
    .describe("grouped: keys and values per head group; latent: from one compressed vector per token"),
  query_key_norm: z
    .enum(["none", "head", "projection"])
    .default("none")
    .describe("RMSNorm of queries and keys before RoPE: of each head, or of the whole projection"),
  clip_qkv: aboveZero
    .nullable()
    .default(null)
    .describe("Queries, keys (after their norm) and values clamped"),
  attention_gate: z
    .boolean()
    .default(false)
    .describe(
      "Attention's output times the sigmoid of a projection of its input, before the projection back",
    ),
  sliding_window: upTo(BOUNDS.positions)
    .nullable()
    .default(null)
    .describe("Most recent positions that a token sees, itself included"),
  sliding_window_layers: layers.optional().describe("Blocks with the window; default all"),
  q_lora_rank: width
    .nullable()
    .optional()
    .describe("Latent: width of the queries' compressed vector; null: none"),
  kv_lora_rank: width.optional().describe("Latent: width of the compressed vector of keys and values"),
  qk_nope_head_dim: width.optional().describe("Latent: part of a head's key without position"),
  qk_rope_head_dim: width.optional().describe("Latent: part of a head's key with RoPE, one for all heads"),
  v_head_dim: width.optional().describe("Latent: width of a head's value"),
  latent_scale: z
    .boolean()
    .default(false)
    .describe(
      "Latent: queries × √(D / q_lora_rank), the normed vector of keys and values × √(D / kv_lora_rank)",
    ),
} as const;

export const ropeKeys = {
  rope_theta: z.number().positive().max(1e15).default(10_000).describe("Base of rotary positions (llama)"),
  rope_scaling: ropeScaling.nullable().default(null).describe("How RoPE is stretched to longer sequences"),
  rope_pairs: z
    .enum(["halves", "neighbours"])
    .default("halves")
    .describe("Which elements turn together: i and i + d/2, or 2i and 2i + 1"),
} as const;

/** What the checks and the parts read of a model config. */
export interface AttentionConfig extends Omit<
  z.output<z.ZodObject<typeof attentionKeys & typeof ropeKeys>>,
  "sliding_window_layers"
> {
  readonly sliding_window_layers?: readonly number[] | undefined;
  readonly style: "gpt" | "llama";
  readonly hidden_size: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads?: number | undefined;
  readonly head_dim?: number | undefined;
}

/** Widths of latent attention's vectors. */
export interface LatentWidths {
  /** Undefined: queries are not compressed. */
  readonly qRank?: number | undefined;
  readonly kvRank: number;
  /** Of a head's key: the part without position, and the one with it. */
  readonly plainDim: number;
  readonly ropeDim: number;
  readonly valueDim: number;
}

const LATENT_WIDTHS = ["kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"] as const;

/** Of a config that has passed `checkAttention`; undefined where attention is not latent. */
export function latentWidths(config: AttentionConfig): LatentWidths | undefined {
  if (config.attention !== "latent") return undefined;
  const [kvRank, plainDim, ropeDim, valueDim] = LATENT_WIDTHS.map((key) => config[key] as number);
  return { qRank: config.q_lora_rank ?? undefined, kvRank, plainDim, ropeDim, valueDim };
}

/** Width of a head's query and key. */
export function headDimOf(config: AttentionConfig): number {
  const latent = latentWidths(config);
  if (latent !== undefined) return latent.plainDim + latent.ropeDim;
  return config.head_dim ?? config.hidden_size / config.num_attention_heads;
}

/** @param fail throws what is wrong */
export function checkAttention(config: AttentionConfig, fail: (text: string) => never): void {
  if (config.attention === "latent") checkLatent(config, fail);
  else checkGrouped(config, fail);
  if (config.style === "gpt")
    for (const [key, { none }] of Object.entries(ROPE_KEYS)) {
      const value = config[key as keyof typeof ROPE_KEYS];
      if (value !== none)
        fail(
          `${key} is ${shown(value)}, but style gpt has learned positions; wanted ${shown(none)}, or style llama`,
        );
    }
  if (config.sliding_window === null && (config.sliding_window_layers?.length ?? 0) > 0)
    fail(
      `sliding_window_layers is ${shown(config.sliding_window_layers)}, but sliding_window is null; wanted a number of positions`,
    );
  checkRopeScaling(config, fail);
}

/** What has no meaning without rotary positions, and what it is then. */
const ROPE_KEYS = { rope_scaling: { none: null }, rope_pairs: { none: "halves" } } as const;

/** What only one kind of attention has, and what it is in the other. */
const OF_GROUPED = { query_key_norm: "none", clip_qkv: null, sliding_window: null } as const;
const OF_LATENT = [...LATENT_WIDTHS, "q_lora_rank"] as const;

function checkLatent(config: AttentionConfig, fail: (text: string) => never): void {
  for (const key of LATENT_WIDTHS)
    if (config[key] === undefined) fail(`${key} is missing; attention latent wants a width`);
  if (config.q_lora_rank === undefined)
    fail("q_lora_rank is missing; attention latent wants a width, or null: queries are not compressed");
  if (config.style !== "llama")
    fail(`attention is latent, which has rotary positions, but style is ${config.style}; wanted llama`);
  for (const [key, none] of Object.entries(OF_GROUPED)) {
    const value = config[key as keyof typeof OF_GROUPED];
    if (value !== none) fail(`${key} is ${shown(value)}, but attention is latent; wanted ${shown(none)}`);
  }
  const { num_key_value_heads: kvHeads, num_attention_heads: heads, head_dim: given } = config;
  if (kvHeads !== undefined && kvHeads !== heads)
    fail(
      `num_key_value_heads is ${kvHeads}, but latent attention has keys for each of its ${heads} heads (num_attention_heads); remove the key`,
    );
  if (given !== undefined && given !== headDimOf(config))
    fail(
      `head_dim is ${given}, but latent attention's is qk_nope_head_dim + qk_rope_head_dim = ${headDimOf(config)}; remove the key`,
    );
  if ((config.qk_rope_head_dim as number) % 2 !== 0)
    fail(`qk_rope_head_dim ${config.qk_rope_head_dim} is odd; RoPE needs an even one`);
  if (config.latent_scale && config.q_lora_rank === null)
    fail("latent_scale is true, but q_lora_rank is null; wanted a width to scale by");
}

function checkGrouped(config: AttentionConfig, fail: (text: string) => never): void {
  for (const key of OF_LATENT)
    if (config[key] !== undefined && config[key] !== null)
      fail(`${key} is ${config[key]}, but attention is grouped; remove the key, or set attention to latent`);
  if (config.latent_scale)
    fail("latent_scale is true, but attention is grouped; wanted false, or attention latent");
  if (config.head_dim === undefined && config.hidden_size % config.num_attention_heads !== 0)
    fail(
      `hidden_size ${config.hidden_size} is not a multiple of num_attention_heads ${config.num_attention_heads}`,
    );
  const kvHeads = config.num_key_value_heads ?? config.num_attention_heads;
  if (config.num_attention_heads % kvHeads !== 0)
    fail(
      `num_attention_heads ${config.num_attention_heads} is not a multiple of num_key_value_heads ${kvHeads}`,
    );
  const headDim = headDimOf(config);
  if (config.style === "llama" && headDim % 2 !== 0)
    fail(
      `the head dimension ${headDim} is odd; RoPE needs an even one (head_dim, by default hidden_size / num_attention_heads)`,
    );
}

function checkRopeScaling(
  { rope_scaling: scaling, rope_theta: theta }: AttentionConfig,
  fail: (text: string) => never,
): void {
  if (scaling?.rope_type === "llama3" && scaling.high_freq_factor <= scaling.low_freq_factor)
    fail(
      `rope_scaling.high_freq_factor is ${scaling.high_freq_factor}; wanted more than low_freq_factor, ${scaling.low_freq_factor}`,
    );
  if (scaling?.rope_type !== "yarn") return;
  if (scaling.beta_fast < scaling.beta_slow)
    fail(`rope_scaling.beta_fast is ${scaling.beta_fast}; wanted at least beta_slow, ${scaling.beta_slow}`);
  if (theta <= 1) fail(`rope_theta is ${theta}; rope_scaling yarn wants more than 1`);
}
