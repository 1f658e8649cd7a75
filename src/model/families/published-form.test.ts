import { describe, expect, it } from "vitest";
import { type ModelConfig, type ModelInput, resolveModel } from "../config.js";
import { listParameters } from "../parameters.js";
import { FAMILIES } from "./index.js";
import { publishedForm } from "./published-form.js";

const SMALL: Omit<ModelInput, "arch"> = {
  style: "llama",
  vocab_size: 20,
  hidden_size: 16,
  intermediate_size: 24,
  moe_intermediate_size: 12,
  num_attention_heads: 4,
  num_hidden_layers: 4,
  num_experts: 4,
  max_position_embeddings: 32,
};
const LATENT: Partial<ModelInput> = {
  attention: "latent",
  q_lora_rank: 8,
  kv_lora_rank: 8,
  qk_nope_head_dim: 4,
  qk_rope_head_dim: 2,
  v_head_dim: 6,
  rope_pairs: "neighbours",
};
const V3: Partial<ModelInput> = {
  ...LATENT,
  coefficient_gate: "none",
  shared_expert_intermediate_size: 12,
  dense_layers: [0],
  moe_layer_interval: 1,
  router_scores: "sigmoid",
  norm_topk_prob: "always",
  balance: "bias",
  expert_group_score: "two_best",
};
const model = (arch: string, more: Partial<ModelInput> = {}): ModelConfig =>
  resolveModel({ ...SMALL, arch, ...more });

/** Models that were born here, and what published class can hold them. */
const BORN: [what: string, config: ModelConfig, family: string | undefined, reason?: RegExp][] = [
  ["dense", model("dense"), "llama"],
  ["dense with biases of queries, keys and values", model("dense", { attention_bias: true }), "qwen2"],
  ["dense with norms of heads", model("dense", { query_key_norm: "head" }), "qwen3"],
  ["top-2 in every block", model("top2", { moe_layer_interval: 1 }), "mixtral"],
  [
    "top-2 in every block with norms of heads",
    model("top2", { moe_layer_interval: 1, query_key_norm: "head" }),
    "qwen3_moe",
  ],
  [
    "top-2 in every other block with norms of heads",
    model("top2", { query_key_norm: "head", norm_topk_prob: false }),
    "qwen3_moe",
  ],
  ["top-1 with norms of heads", model("top1", { query_key_norm: "head" }), "qwen3_moe"],
  [
    "top-2 with norms of projections",
    model("top2", { moe_layer_interval: 1, query_key_norm: "projection" }),
    "olmoe",
  ],
  ["a shared expert with a gate", model("shared2", { coefficient_gate: "cg1" }), "qwen2_moe"],
  ["the parts of DeepSeek-V3", model("shared2", V3), "deepseek_v3"],
  ["the parts of LongCat-Flash", model("longcat2", { ...LATENT, latent_scale: true }), "longcat_flash"],
  [
    "top-2 in every other block",
    model("top2"),
    undefined,
    /moe_layer_interval is "MoE in blocks 1, 3", which Mixtral/,
  ],
  ["a shared expert that is softly mixed", model("shared2"), undefined, /coefficient_gate is "cg2"/],
  ["a gate with noise", model("top2", { moe_layer_interval: 1, gate_noise: true }), undefined, /gate_noise/],
  ["GPT style", model("dense", { style: "gpt" }), undefined, /style is "gpt", which Llama cannot express/],
  ["ScMoE", model("scmoe-pos2"), undefined, /^arch is scmoe-pos2$/],
  ["DGMoE", model("dgmoe"), undefined, /^arch is dgmoe$/],
];

describe("a model that is of no family", () => {
  it.each(BORN)("%s", (_, config, family, reason = /^$/) => {
    const form = publishedForm(config, "here");
    expect(form.family?.name).toBe(family);
    expect(form.reason ?? "").toMatch(reason);
    const named = form.tensors.filter(({ from }) => from !== undefined);
    expect(named.map(({ from, dims }) => [from, dims])).toEqual(
      listParameters(config).map(({ name, dims }) => [name, dims]),
    );
    expect(new Set(form.tensors.map(({ name }) => name)).size).toBe(form.tensors.length);
    if (family === undefined) expect(form.config).toMatchObject({ model_type: "scmoe", arch: config.arch });
    else expect(form.config).toMatchObject({ architectures: [form.family?.architectures[0]] });
  });
});

it("a model that is of a family is refused where that has no word for a key", () => {
  const of = (family: string, arch: string, more: Partial<ModelInput>) => (): unknown =>
    publishedForm(model(arch, { ...more, family }), "here");
  expect(of("llama", "dense", { query_key_norm: "head" })).toThrow(
    'here: query_key_norm is "head", which Llama cannot express; it says "none"',
  );
  expect(of("mixtral", "top2", { moe_layer_interval: 1, norm_topk_prob: false })).toThrow(
    "here: norm_topk_prob is false, which Mixtral cannot express; it says true",
  );
  expect(of("mixtral", "shared2", {})).toThrow(
    'arch is "shared2", which Mixtral cannot express; it says "top2"',
  );
  expect(of("gpt-5", "dense", {})).toThrow("No family of models is called");
  expect(FAMILIES.length).toBeGreaterThan(10);
});

it("names, and tensors that stay f32", () => {
  const names = (config: ModelConfig): string[] =>
    publishedForm(config, "here").tensors.map(({ name }) => name);
  const f32 = (config: ModelConfig): string[] =>
    publishedForm(config, "here").tensors.flatMap(({ name, isAlwaysF32 }) => (isAlwaysF32 ? [name] : []));
  const mixtral = names(model("top2", { moe_layer_interval: 1 }));
  expect(mixtral).toContain("model.layers.3.block_sparse_moe.experts.2.w3.weight");
  const v3 = model("shared2", V3);
  expect(f32(v3)).toEqual(
    [1, 2, 3].flatMap((i) => [
      `model.layers.${i}.mlp.gate.weight`,
      `model.layers.${i}.mlp.gate.e_score_correction_bias`,
    ]),
  );
  expect(names(v3)).toContain("model.layers.1.mlp.shared_experts.up_proj.weight");
  const longcat = publishedForm(
    model("longcat2", { ...LATENT, latent_scale: true, num_zero_experts: 2 }),
    "here",
  ).tensors;
  expect(longcat.filter(({ from }) => from === undefined)).toEqual(
    [0, 1].flatMap((layer) =>
      [4, 5].flatMap((e) =>
        ["gate", "up"].map((part) => ({
          name: `model.layers.${layer}.mlp.experts.${e}.${part}_proj.weight`,
          dims: [12, 16],
          from: undefined,
          isAlwaysF32: false,
        })),
      ),
    ),
  );
  expect(longcat.filter(({ isAlwaysF32 }) => isAlwaysF32).map(({ name }) => name)).toEqual([
    "model.layers.0.mlp.router.e_score_correction_bias",
    "model.layers.1.mlp.router.e_score_correction_bias",
  ]);
});
