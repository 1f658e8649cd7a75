/** Which keys of attention fit together, and the tensors that a model then has. */
import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { type ModelInput, modelToJson, resolveModel } from "./config.js";
import { listParameters } from "./parameters.js";
import { structureOf } from "./structure.js";

const DENSE = {
  arch: "dense",
  style: "llama",
  vocab_size: 11,
  hidden_size: 16,
  intermediate_size: 24,
  num_attention_heads: 4,
  num_hidden_layers: 3,
  max_position_embeddings: 32,
} satisfies ModelInput;
const LATENT = {
  ...DENSE,
  attention: "latent",
  q_lora_rank: 9,
  kv_lora_rank: 7,
  qk_nope_head_dim: 3,
  qk_rope_head_dim: 6,
  v_head_dim: 5,
} satisfies ModelInput;
const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  original_max_position_embeddings: 16,
  low_freq_factor: 1,
  high_freq_factor: 4,
};
const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 };

describe("refused", () => {
  const without = (key: keyof typeof LATENT): Record<string, unknown> => ({ ...LATENT, [key]: undefined });
  const cases: [string, Record<string, unknown>, RegExp][] = [
    [
      "a latent width missing",
      without("v_head_dim"),
      /v_head_dim is missing; attention latent wants a width$/,
    ],
    ["whether queries are compressed", without("q_lora_rank"), /q_lora_rank is missing; .* or null/],
    ["latent with learned positions", { ...LATENT, style: "gpt" }, /latent.*but style is gpt; wanted llama/],
    [
      "latent with norms of heads",
      { ...LATENT, query_key_norm: "head" },
      /query_key_norm is "head", but attention is latent; wanted "none"/,
    ],
    ["latent, clamped", { ...LATENT, clip_qkv: 3 }, /clip_qkv is 3, but attention is latent; wanted null/],
    [
      "latent with a window",
      { ...LATENT, sliding_window: 3 },
      /sliding_window is 3, but attention is latent/,
    ],
    [
      "latent with shared heads",
      { ...LATENT, num_key_value_heads: 2 },
      /num_key_value_heads is 2, .*its 4 heads.*remove the key/,
    ],
    ["another head_dim", { ...LATENT, head_dim: 6 }, /head_dim is 6, .*qk_rope_head_dim = 9; remove/],
    ["an odd rope key", { ...LATENT, qk_rope_head_dim: 5 }, /qk_rope_head_dim 5 is odd/],
    [
      "nothing to scale by",
      { ...LATENT, q_lora_rank: null, latent_scale: true },
      /latent_scale is true, but q_lora/,
    ],
    [
      "a latent width of grouped",
      { ...DENSE, kv_lora_rank: 7 },
      /kv_lora_rank is 7, but attention is grouped/,
    ],
    ["scaled grouped", { ...DENSE, latent_scale: true }, /latent_scale is true, but attention is grouped/],
    [
      "windows of no width",
      { ...DENSE, sliding_window_layers: [1] },
      /layers is \[1\], but sliding_window is null/,
    ],
    [
      "stretched learned positions",
      { ...DENSE, style: "gpt", rope_scaling: YARN },
      /rope_scaling is .*, but style gpt has learned positions; wanted null/,
    ],
    [
      "pairs of learned positions",
      { ...DENSE, style: "gpt", rope_pairs: "neighbours" },
      /rope_pairs is "neighbours", .*wanted "halves"/,
    ],
    [
      "llama3 without a middle",
      { ...DENSE, rope_scaling: { ...LLAMA3, high_freq_factor: 1 } },
      /high_freq_factor is 1; wanted more than low_freq_factor, 1/,
    ],
    [
      "yarn the wrong way round",
      { ...DENSE, rope_scaling: { ...YARN, beta_fast: 0.5 } },
      /beta_fast is 0.5; wanted at least beta_slow, 1/,
    ],
    [
      "yarn that never turns",
      { ...DENSE, rope_theta: 1, rope_scaling: YARN },
      /rope_theta is 1; .*more than 1/,
    ],
  ];
  it.each(cases)("%s", (_name, keys, message) => {
    expect(() => resolveModel(keys)).toThrow(InputError);
    expect(() => resolveModel(keys)).toThrow(message);
  });
});

const ACCEPTED: [string, ModelInput][] = [
  ["latent", { ...LATENT, attention_gate: true, rope_scaling: { ...YARN, rope_type: "yarn" } }],
  ["latent, queries not compressed", { ...LATENT, q_lora_rank: null }],
  ["grouped", { ...DENSE, query_key_norm: "head", sliding_window: 4, sliding_window_layers: [0, 2] }],
];

it.each(ACCEPTED)("a resolved config reads as itself: %s", (_name, keys) => {
  const config = resolveModel(keys);
  expect(resolveModel(JSON.parse(JSON.stringify(modelToJson(config))))).toEqual(config);
});

/** Of the first block's attention, without its prefix: "k_norm.weight 4". */
function tensors(keys: ModelInput): string[] {
  const prefix = "model.layers.0.self_attn.";
  return listParameters(resolveModel(keys))
    .filter(({ name }) => name.startsWith(prefix))
    .map(({ name, dims }) => `${name.slice(prefix.length)} ${dims.join("×")}`);
}

describe("tensors, as published", () => {
  it("latent", () => {
    expect(tensors({ ...LATENT, attention_bias: true, attention_gate: true }).sort()).toEqual([
      "gate_proj.weight 20×16",
      "kv_a_layernorm.weight 7",
      "kv_a_proj_with_mqa.bias 13",
      "kv_a_proj_with_mqa.weight 13×16",
      "kv_b_proj.weight 32×7",
      "o_proj.bias 16",
      "o_proj.weight 16×20",
      "q_a_layernorm.weight 9",
      "q_a_proj.bias 9",
      "q_a_proj.weight 9×16",
      "q_b_proj.weight 36×9",
    ]);
  });

  it("latent, queries not compressed", () => {
    expect(tensors({ ...LATENT, q_lora_rank: null }).sort()).toEqual([
      "kv_a_layernorm.weight 7",
      "kv_a_proj_with_mqa.weight 13×16",
      "kv_b_proj.weight 32×7",
      "o_proj.weight 16×20",
      "q_proj.weight 36×16",
    ]);
  });

  it.each([
    ["head", "6", "6"],
    ["projection", "24", "12"],
  ] as const)("grouped, norm of the %s, heads of a width of their own", (norm, q, k) => {
    const keys = {
      ...DENSE,
      head_dim: 6,
      num_key_value_heads: 2,
      query_key_norm: norm,
      attention_gate: true,
    };
    expect(tensors({ ...keys, attention_out_bias: true }).sort()).toEqual([
      "gate_proj.weight 24×16",
      `k_norm.weight ${k}`,
      "k_proj.weight 12×16",
      "o_proj.bias 16",
      "o_proj.weight 16×24",
      `q_norm.weight ${q}`,
      "q_proj.weight 24×16",
      "v_proj.weight 12×16",
    ]);
  });
});

it("a key bias has no gradient only where scores are linear in keys without positions", () => {
  const marked = (keys: Partial<ModelInput>): boolean =>
    listParameters(resolveModel({ ...DENSE, style: "gpt", ...keys })).some(
      ({ name, hasNoGradient }) => name.endsWith("0.self_attn.k_proj.bias") && hasNoGradient === true,
    );
  expect([
    marked({}),
    marked({ query_key_norm: "head" }),
    marked({ clip_qkv: 1 }),
    marked({ style: "llama", attention_bias: true }),
  ]).toEqual([true, false, false, false]);
});

it("windows of some layers", () => {
  const windows = (keys: Partial<ModelInput>) =>
    structureOf(resolveModel({ ...DENSE, ...keys })).blocks.map(
      ({ attention }) => (attention.shape as { window?: number }).window,
    );
  expect(windows({ sliding_window: 4 })).toEqual([4, 4, 4]);
  expect(windows({ sliding_window: 4, sliding_window_layers: [0, 2] })).toEqual([4, undefined, 4]);
  expect(windows({})).toEqual([undefined, undefined, undefined]);
});
