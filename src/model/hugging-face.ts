/**
 * Keys of Hugging Face configs (Mixtral, OLMoE, Qwen2-MoE, LLaMA, GPT-2) in the words of `config.ts`. A key either
 * names a setting of ours, or fixes something that only one value of is implemented, or has no influence on the numbers.
 */
import { asNumber } from "../core/plain.js";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";

type Raw = Readonly<Record<string, unknown>>;

/** Other names of our settings. */
const ALIASES: Readonly<Record<string, string>> = {
  rms_norm_eps: "norm_eps",
  layer_norm_eps: "norm_eps",
  layer_norm_epsilon: "norm_eps",
  num_local_experts: "num_experts",
  n_positions: "max_position_embeddings",
  decoder_sparse_step: "moe_layer_interval",
  moe_every: "moe_layer_interval",
  qkv_bias: "attention_bias",
};

interface Fixed {
  readonly accepts: (value: unknown, config: Raw) => boolean;
  readonly wanted: string;
}

const only = (...values: readonly unknown[]): Fixed => ({
  accepts: (value) => values.includes(value),
  wanted: values.map((value) => JSON.stringify(value)).join(" or "),
});
const activation: Fixed = {
  accepts: (value, { style }) =>
    (style === "llama" ? ["silu", "swish", "swiglu"] : ["gelu"]).some((name) => name === value),
  wanted: '"silu" in llama style (SwiGLU), "gelu" (erf form) in gpt style',
};
const isDefaultRope = (value: unknown): boolean => {
  const { rope_type, type } = value as { rope_type?: unknown; type?: unknown };
  return (rope_type ?? type ?? "default") === "default";
};

/** A table's row of a name that is not ours: "constructor" has none. */
function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** What only one value of is implemented; null means "not used" and always fits. */
const FIXED: Readonly<Record<string, Fixed>> = {
  hidden_act: activation,
  activation_function: activation,
  rope_scaling: { accepts: isDefaultRope, wanted: "null" },
  rope_parameters: { accepts: isDefaultRope, wanted: 'rope_type "default"' },
  partial_rotary_factor: only(1),
  sliding_window: {
    accepts: (value, { use_sliding_window, max_position_embeddings }) =>
      use_sliding_window === false || asNumber(value) >= asNumber(max_position_embeddings),
    wanted: "null, or at least max_position_embeddings",
  },
  use_sliding_window: only(false),
  attention_dropout: only(0),
  attn_pdrop: only(0),
  embd_pdrop: only(0),
  resid_pdrop: only(0),
  hidden_dropout: only(0),
  hidden_dropout_prob: only(0),
  router_jitter_noise: only(0),
  clip_qkv: only(),
  mlp_bias: {
    accepts: (value, { style }) => value === (style !== "llama"),
    wanted: "true in gpt style only",
  },
  scoring_func: only("softmax"),
  position_embedding_type: {
    accepts: (value, { style }) => value === (style === "llama" ? "rope" : "absolute"),
    wanted: '"rope" in llama style, "absolute" in gpt style',
  },
  mlp_only_layers: { accepts: (value) => Array.isArray(value) && value.length === 0, wanted: "[]" },
};

/** Bookkeeping of other tools, and what only matters elsewhere than in the numbers. */
const NEUTRAL: ReadonlySet<string> = new Set([
  "architectures",
  "attn_implementation",
  "_attn_implementation",
  "auto_map",
  "bos_token_id",
  "dtype",
  "eos_token_id",
  "max_window_layers",
  "model_type",
  "_name_or_path",
  "output_attentions",
  "output_hidden_states",
  "output_router_logits",
  "pad_token_id",
  "pretraining_tp",
  "return_dict",
  "torch_dtype",
  "transformers_version",
  "use_cache",
]);

/**
 * Renames, checks and drops the keys that Hugging Face tools write; keys it does not know stay as they are.
 * @param config with `style`, which some rules depend on
 * @throws InputError when a key asks for mathematics that is not implemented, or two names of one setting disagree
 */
export function fromHuggingFace(config: Raw, where: string): Record<string, unknown> {
  // Maps: a key may have the name of something that every object has.
  const result = new Map<string, unknown>();
  const from = new Map<string, string>();
  const set = (key: string, value: unknown, source: string): void => {
    if (result.has(key) && result.get(key) !== value)
      throw new InputError(
        `${where}: ${from.get(key)} is ${shown(result.get(key))}, but ${source} is ${shown(value)}; they are one setting`,
      );
    result.set(key, value);
    from.set(key, source);
  };
  for (const [key, value] of Object.entries(config)) {
    // Only here null is a value of its own: dropless.
    if (key !== "capacity_factor" && (value === null || value === undefined)) continue;
    if (NEUTRAL.has(key)) continue;
    const fixed = own(FIXED, key);
    if (fixed === undefined) {
      set(own(ALIASES, key) ?? key, value, key);
      continue;
    }
    if (!fixed.accepts(value, config))
      throw new InputError(
        `${where}: ${key} is ${shown(value)}, which is not implemented (wanted ${fixed.wanted})`,
      );
    const theta = (value as { rope_theta?: unknown }).rope_theta;
    if (key === "rope_parameters" && theta !== undefined)
      set("rope_theta", theta, "rope_parameters.rope_theta");
  }
  return Object.fromEntries(result);
}
