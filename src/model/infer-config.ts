/**
 * A model config from the few keys of a fixture and the names and dims of its tensors: the style, which blocks are MoE, whether
 * the head is tied and which layers have biases are visible in the weights (method 10). Keys given win over what the tensors
 * suggest.
 */
import { asNumber, asText } from "../core/plain.js";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { type ModelConfig, resolveModel } from "./config.js";

type Shapes = ReadonlyMap<string, readonly number[]>;
type Keys = Readonly<Record<string, unknown>>;

/** Other words for settings of ours. */
const ALIASES: Readonly<Record<string, string>> = {
  layer_norm_eps: "norm_eps",
  moe_every: "moe_layer_interval",
  rms_norm_eps: "norm_eps",
};

/** @throws InputError when a key is unknown, keys contradict each other, or ask for what is not implemented */
export function inferConfig(given: Keys, shapes: Shapes, where: string): ModelConfig {
  const style = given.style ?? (shapes.has("model.embed_positions.weight") ? "gpt" : "llama");
  const keys = inOurWords({ ...given, style }, where);
  dropUnused(keys);
  return resolveModel({ ...fromTensors(keys, shapes), ...keys }, where);
}

/** Only of the capacity null is a value of its own: dropless. */
function inOurWords(given: Keys, where: string): Record<string, unknown> {
  // A map: a key may have the name of something that every object has.
  const result = new Map<string, unknown>();
  for (const [name, value] of Object.entries(given)) {
    if (name !== "capacity_factor" && (value === null || value === undefined)) continue;
    const key = Object.hasOwn(ALIASES, name) ? ALIASES[name] : name;
    if (result.has(key) && result.get(key) !== value)
      throw new InputError(
        `${where}: ${key} is ${shown(result.get(key))} under one name and ${shown(value)} under another (${name}); they are one setting`,
      );
    result.set(key, value);
  }
  return Object.fromEntries(result);
}

/** What a dense model, one without shared expert, or DGMoE says about parts it does not have. */
function dropUnused(keys: Record<string, unknown>): void {
  for (const key of ["num_experts", "moe_intermediate_size", "shared_expert_intermediate_size"])
    if (keys[key] === 0) delete keys[key];
  // DGMoE chooses one expert per representation, so 2 describes it as well as 1.
  if (asText(keys.arch).startsWith("dgmoe") && keys.num_experts_per_tok === 2) keys.num_experts_per_tok = 1;
}

function fromTensors(keys: Keys, shapes: Shapes): Record<string, unknown> {
  const names = [...shapes.keys()];
  const rows = (suffix: string): number | undefined => {
    const name = names.find((candidate) => candidate.endsWith(suffix));
    return name === undefined ? undefined : shapes.get(name)?.[0];
  };
  const hasMoe = names.some((name) => name.includes(".mlp.experts."));
  const hasShared = names.some((name) => name.includes(".mlp.shared_expert."));
  const coefficients = rows(".mlp.shared_expert_gate.weight");
  const queries = rows(".self_attn.q_proj.weight");
  const keyRows = rows(".self_attn.k_proj.weight");
  const headDim = keys.head_dim ?? (queries ?? NaN) / asNumber(keys.num_attention_heads);
  const found: Record<string, unknown> = {
    tie_word_embeddings: !shapes.has("lm_head.weight"),
    attention_bias: names.some((name) => name.endsWith(".self_attn.q_proj.bias")),
    head_dim: wholeOr(headDim),
    num_key_value_heads: wholeOr((keyRows ?? NaN) / asNumber(headDim)),
    moe_layer_interval: names.some((name) => name.startsWith("model.layers.0.mlp.experts.")) ? 1 : undefined,
    moe_intermediate_size: rows(".mlp.experts.0.up_proj.weight"),
    shared_expert_intermediate_size: rows(".mlp.shared_expert.up_proj.weight"),
    coefficient_gate: hasShared ? ["none", "cg1", "cg2"][coefficients ?? 0] : undefined,
    shortcut_norm: asText(keys.arch).startsWith("scmoe")
      ? names.some((name) => name.endsWith(".mlp.shortcut_layernorm.weight"))
        ? "own"
        : "reuse"
      : undefined,
    arch: inferArch(keys, {
      hasMoe,
      hasShared,
      hasShortcut: rows(".mlp.shortcut_layernorm.weight") !== undefined,
    }),
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

/** Where no key names an architecture, the weights do, unless they are ScMoE's, which do not show where the shortcut starts. */
function inferArch(
  keys: Keys,
  has: { hasMoe: boolean; hasShared: boolean; hasShortcut: boolean },
): string | undefined {
  if (has.hasShortcut) return undefined;
  if (!has.hasMoe) return "dense";
  const k = asNumber(keys.num_experts_per_tok);
  if (!Number.isInteger(k)) return undefined;
  return has.hasShared ? `shared${k}` : `top${k}`;
}

function wholeOr(value: unknown): number | undefined {
  return Number.isInteger(value) && Number(value) > 0 ? Number(value) : undefined;
}
