import { describe, expect, it } from "vitest";
import { resolveModel } from "./config.js";
import { inferConfig } from "./infer-config.js";
import { listParameters } from "./parameters.js";

const KEYS = {
  vocab_size: 50,
  hidden_size: 32,
  intermediate_size: 48,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  num_experts: 4,
  max_position_embeddings: 64,
};
const shapesOf = (config: object) =>
  new Map(listParameters(resolveModel(config)).map(({ name, dims }) => [name, dims]));

describe("a config of a few keys", () => {
  it("shows head size, widths, biases, ties and the coefficient gate in its weights", () => {
    const wanted = {
      ...KEYS,
      arch: "shared2",
      style: "llama" as const,
      num_key_value_heads: 2,
      moe_layer_interval: 1,
      head_dim: 12,
      attention_bias: true,
      tie_word_embeddings: true,
      moe_intermediate_size: 20,
      shared_expert_intermediate_size: 28,
      coefficient_gate: "cg1" as const,
    };
    const given = { ...KEYS, num_experts_per_tok: 2 };
    expect(inferConfig(given, shapesOf(wanted), "run.json")).toEqual(resolveModel(wanted));
  });

  it("may use another word for a key, and one value for both", () => {
    const shapes = shapesOf({ ...KEYS, arch: "top2", style: "gpt" });
    const given = { ...KEYS, arch: "top2", moe_every: 2, layer_norm_eps: 1e-6, head_dim: null };
    expect(inferConfig(given, shapes, "run.json")).toMatchObject({ moe_layer_interval: 2, norm_eps: 1e-6 });
    expect(() => inferConfig({ ...given, moe_layer_interval: 1 }, shapes, "run.json")).toThrow(
      /they are one setting/,
    );
  });

  it("keeps the null that means dropless", () => {
    const shapes = shapesOf({ ...KEYS, arch: "top2", style: "gpt" });
    expect(inferConfig({ ...KEYS, arch: "top2", capacity_factor: null }, shapes, "x").capacity_factor).toBe(
      null,
    );
  });
});
