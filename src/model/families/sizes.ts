/** What config.json of all families says alike. */
import { BOUNDS } from "../../core/bounds.js";
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";
import { readRope, writeRope } from "./rope.js";

/** A family's values where keys are missing. */
export interface Defaults {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly pad_token_id?: number;
}

const WIDTH = ["intermediate_size"];

/** @param names other names of the width of dense MLPs and of the number of layers */
export function readSizes(
  keys: ConfigKeys,
  missing: Defaults,
  names: { readonly width?: readonly string[]; readonly layers?: readonly string[] } = {},
) {
  const { width = WIDTH, layers = ["num_hidden_layers"] } = names;
  const positions = keys.count("max_position_embeddings", missing.max_position_embeddings);
  const vocab_size = keys.count("vocab_size", missing.vocab_size);
  const initializer = keys.value("initializer_range");
  return {
    style: "llama",
    vocab_size,
    hidden_size: keys.count("hidden_size", missing.hidden_size),
    intermediate_size: keys.count(width, missing.intermediate_size),
    num_hidden_layers: keys.count(layers, missing.num_hidden_layers, { to: BOUNDS.layers.to }),
    num_attention_heads: keys.count("num_attention_heads", missing.num_attention_heads),
    max_position_embeddings: positions,
    norm_eps: keys.real("rms_norm_eps", missing.rms_norm_eps),
    tie_word_embeddings: keys.flag("tie_word_embeddings", false),
    padding_token: paddingToken(keys, vocab_size, missing.pad_token_id ?? null),
    ...(typeof initializer === "number" && initializer > 0 ? { initializer_range: initializer } : {}),
    ...readRope(keys, missing.rope_theta, positions),
  } satisfies Partial<ModelInput>;
}

/** One from the end, where it is negative. */
function paddingToken(keys: ConfigKeys, vocabulary: number, missing: number | null): number | null {
  const given = keys.value("pad_token_id");
  const token = given === undefined ? missing : given;
  if (token === null) return null;
  if (!Number.isSafeInteger(token) || Number(token) >= vocabulary || Number(token) < -vocabulary)
    return given === undefined
      ? null
      : keys.refuse("pad_token_id", given, `a token below vocab_size ${vocabulary}, or null`);
  return Number(token) < 0 ? vocabulary + Number(token) : Number(token);
}

export function writeSizes(config: ModelConfig): Record<string, unknown> {
  return {
    vocab_size: config.vocab_size,
    hidden_size: config.hidden_size,
    intermediate_size: config.intermediate_size,
    num_hidden_layers: config.num_hidden_layers,
    num_attention_heads: config.num_attention_heads,
    max_position_embeddings: config.max_position_embeddings,
    rms_norm_eps: config.norm_eps,
    tie_word_embeddings: config.tie_word_embeddings,
    pad_token_id: config.padding_token,
    hidden_act: "silu",
    initializer_range: config.initializer_range,
    ...writeRope(config),
  };
}
