import { describe, expect, it } from "vitest";
import { fromHuggingFace } from "./hugging-face.js";
import { inferConfig } from "./infer-config.js";
import { resolveModel } from "./config.js";
import { listParameters } from "./parameters.js";

/** A Mixtral config as Hugging Face's tools write it. */
const MIXTRAL = {
  architectures: ["MixtralForCausalLM"],
  model_type: "mixtral",
  attention_dropout: 0.0,
  bos_token_id: 1,
  eos_token_id: 2,
  head_dim: null,
  hidden_act: "silu",
  hidden_size: 32,
  initializer_range: 0.02,
  intermediate_size: 48,
  max_position_embeddings: 64,
  num_attention_heads: 4,
  num_experts_per_tok: 2,
  num_hidden_layers: 2,
  num_key_value_heads: 2,
  num_local_experts: 4,
  output_router_logits: false,
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  router_aux_loss_coef: 0.02,
  router_jitter_noise: 0.0,
  sliding_window: null,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
  transformers_version: "4.40.0",
  use_cache: true,
  vocab_size: 50,
};

function shapesOf(config: object): Map<string, readonly number[]> {
  return new Map(listParameters(resolveModel(config)).map(({ name, dims }) => [name, dims]));
}

const wanted = {
  arch: "top2",
  style: "llama",
  vocab_size: 50,
  hidden_size: 32,
  intermediate_size: 48,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  num_hidden_layers: 2,
  num_experts: 4,
  moe_layer_interval: 1,
  max_position_embeddings: 64,
  norm_eps: 1e-6,
  rope_theta: 1e6,
  router_aux_loss_coef: 0.02,
};

describe("a Hugging Face config", () => {
  it("with its weights is a whole model", () => {
    const { config, warnings } = inferConfig(MIXTRAL, shapesOf(wanted), "config.json");
    expect(config).toEqual(resolveModel(wanted));
    expect(warnings).toEqual([]);
  });

  it("shows head size, widths, biases, ties and the coefficient gate in its weights", () => {
    const odd = {
      ...wanted,
      arch: "shared2",
      head_dim: 12,
      attention_bias: true,
      tie_word_embeddings: true,
      moe_intermediate_size: 20,
      shared_expert_intermediate_size: 28,
      coefficient_gate: "cg1",
    };
    const { head_dim: _none, ...keys } = MIXTRAL;
    const given = { ...keys, tie_word_embeddings: true };
    expect(inferConfig(given, shapesOf(odd), "config.json").config).toEqual(resolveModel(odd));
  });

  it("gives k to an architecture whose name has none", () => {
    expect(resolveModel({ ...wanted, arch: "shared", num_experts_per_tok: 2 }).topK).toBe(2);
    expect(resolveModel({ ...wanted, arch: "scmoe-pos1", num_experts_per_tok: 3 }).topK).toBe(3);
    expect(() => resolveModel({ ...wanted, arch: "top2", num_experts_per_tok: 3 })).toThrow(
      /num_experts_per_tok is 3/,
    );
  });

  it.each([
    ["hidden_act", "gelu"],
    ["rope_scaling", { rope_type: "yarn", factor: 4 }],
    ["sliding_window", 32],
    ["clip_qkv", 8],
    ["attention_dropout", 0.1],
    ["scoring_func", "sigmoid"],
    ["mlp_only_layers", [0]],
    ["mlp_bias", true],
  ])("that asks for other mathematics by %s is refused", (key, value) => {
    expect(() => fromHuggingFace({ ...MIXTRAL, style: "llama", [key]: value }, "config.json")).toThrow(
      new RegExp(`^config\\.json: ${key} is .*not implemented`),
    );
  });

  it.each([
    ["rope_scaling", { rope_type: "default" }],
    ["sliding_window", 4096],
    ["clip_qkv", null],
    ["mlp_bias", false],
  ])("may say %s when it changes nothing", (key, value) => {
    expect(
      fromHuggingFace({ style: "llama", max_position_embeddings: 64, [key]: value }, "config.json"),
    ).toEqual({
      style: "llama",
      max_position_embeddings: 64,
    });
  });

  it("may not give one setting two values under two names", () => {
    expect(() => fromHuggingFace({ num_experts: 8, num_local_experts: 4 }, "config.json")).toThrow(
      /num_experts is 8, but num_local_experts is 4/,
    );
    expect(fromHuggingFace({ num_experts: 4, num_local_experts: 4 }, "config.json")).toEqual({
      num_experts: 4,
    });
  });

  it("keeps the null that means dropless", () => {
    expect(fromHuggingFace({ capacity_factor: null, head_dim: null }, "x")).toEqual({
      capacity_factor: null,
    });
  });
});
