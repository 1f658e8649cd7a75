import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ModelConfig } from "../config.js";
import { listParameters } from "../parameters.js";
import { FAMILIES, familyNamed, familyOf, placesOf, readConfig } from "./index.js";
import { publishedForm } from "./published-form.js";

type Json = Record<string, unknown>;

const published = (folder: string): Json =>
  JSON.parse(
    readFileSync(new URL(`../../../test/fixtures/hf/${folder}/config.json`, import.meta.url), "utf8"),
  ) as Json;
const without = (json: Json, ...keys: string[]): Json =>
  Object.fromEntries(Object.entries(json).filter(([key]) => !keys.includes(key)));
const read = (json: Json) => readConfig(json, "config.json").config;

/** What published configs do not say: how the model is trained. */
function unlikeTraining(config: ModelConfig): object {
  const { router_aux_loss_coef: _loss, initializer_range: _range, ...rest } = config;
  return rest;
}

const FOLDERS = [
  "mixtral",
  "qwen2-moe",
  "qwen3-moe",
  "olmoe",
  "deepseek-v2",
  "deepseek-v3",
  "longcat-flash",
  "instella-moe",
  "llama",
  "qwen2",
  "qwen3",
];

describe("a family", () => {
  it("is known by architectures before model_type", () => {
    const named = { architectures: ["InstellaMoEForCausalLM"], model_type: "deepseek_v3" };
    expect(familyOf(named, "x").name).toBe("instella_moe");
    expect(familyOf({ ...named, architectures: ["Instella_MoeForCausalLM"] }, "x").name).toBe("instella_moe");
    expect(familyOf({ model_type: "deepseek_v3" }, "x").name).toBe("deepseek_v3");
    expect(familyOf({ architectures: null, model_type: "olmoe" }, "x").name).toBe("olmoe");
    expect(() => familyOf({ architectures: ["Foo"], model_type: "llama" }, "x")).toThrow(
      /x: architectures is \["Foo"\], which is not supported; wanted one of MixtralForCausalLM/,
    );
    expect(() => familyOf({}, "x")).toThrow(/x: model_type is nothing/);
    expect(() => familyNamed("gpt5")).toThrow(/known: mixtral/);
  });

  it.each(FOLDERS)("writes what it reads: %s", (folder) => {
    const config = read(published(folder));
    const written = publishedForm(config, "here").config;
    expect(unlikeTraining(read(written))).toEqual(unlikeTraining(config));
  });

  it("has one name in the files for every tensor of a model", () => {
    for (const folder of FOLDERS) {
      const { family, config } = readConfig(published(folder), "config.json");
      const names = listParameters(config).map(({ name }) => placesOf(family.tensors, name)[0].name);
      expect(new Set(names).size, folder).toBe(names.length);
    }
    expect(FAMILIES).toHaveLength(FOLDERS.length);
  });
});

describe("tensors", () => {
  const gate = "model.layers.3.mlp.experts.5.up_proj.weight";

  it("are per expert or fused, by family and name", () => {
    expect(placesOf(familyNamed("mixtral").tensors, gate)).toEqual([
      { name: "model.layers.3.block_sparse_moe.experts.5.w3.weight" },
      { name: "model.layers.3.mlp.experts.gate_up_proj", slice: { expert: 5, part: 1, parts: 2 } },
    ]);
    expect(placesOf(familyNamed("mixtral").tensors, "model.layers.0.mlp.gate.weight")).toEqual([
      { name: "model.layers.0.block_sparse_moe.gate.weight" },
      { name: "model.layers.0.mlp.gate.weight" },
    ]);
  });

  it.each([
    ["model.layers.5.self_attn.q_a_layernorm.weight", "model.layers.2.self_attn.1.q_a_layernorm.weight"],
    ["model.layers.4.input_layernorm.weight", "model.layers.2.input_layernorm.0.weight"],
    ["model.layers.4.mlp.down_proj.weight", "model.layers.2.mlps.0.down_proj.weight"],
    ["model.layers.5.mlp.shared_expert.up_proj.weight", "model.layers.2.mlps.1.up_proj.weight"],
    ["model.layers.5.mlp.gate.selection_bias", "model.layers.2.mlp.router.e_score_correction_bias"],
    ["model.layers.5.mlp.gate.weight", "model.layers.2.mlp.router.classifier.weight"],
    ["lm_head.weight", "lm_head.weight"],
  ])("of a LongCat layer are of two blocks: %s", (ours, theirs) => {
    expect(placesOf(familyNamed("longcat_flash").tensors, ours)[0]).toEqual({ name: theirs });
  });
});

describe("a key", () => {
  it.each<[string, string, Json]>([
    ["mixtral", "num_experts_per_tok", { topK: 2 }],
    ["mixtral", "rms_norm_eps", { norm_eps: 1e-5 }],
    ["mixtral", "rope_parameters", { rope_theta: 1e6 }],
    ["qwen2-moe", "norm_topk_prob", { norm_topk_prob: false }],
    ["qwen2-moe", "qkv_bias", { attention_bias: true, attention_out_bias: false }],
    ["qwen3-moe", "norm_topk_prob", { norm_topk_prob: false }],
    ["qwen3", "head_dim", { headDim: 128 }],
    ["olmoe", "norm_topk_prob", { norm_topk_prob: false }],
    ["olmoe", "pad_token_id", { padding_token: 1 }],
    ["deepseek-v2", "q_lora_rank", { q_lora_rank: 1536 }],
    ["deepseek-v2", "routed_scaling_factor", { routed_scaling_factor: 1 }],
    ["deepseek-v3", "norm_topk_prob", { norm_topk_prob: "always" }],
    ["deepseek-v3", "routed_scaling_factor", { routed_scaling_factor: 2.5 }],
    ["deepseek-v3", "rope_interleave", { rope_pairs: "neighbours" }],
    ["longcat-flash", "rope_parameters", { rope_theta: 1e7 }],
    ["longcat-flash", "routed_scaling_factor", { routed_scaling_factor: 6 }],
  ])("that is missing has the family's default: %s, %s", (folder, key, wanted) => {
    expect(read(without(published(folder), key))).toMatchObject(wanted);
  });

  it.each<[string, Json, Json]>([
    ["mixtral", { num_key_value_heads: null }, { num_key_value_heads: 2 }],
    ["qwen3-moe", { norm_topk_prob: null }, { norm_topk_prob: false }],
    ["qwen3", { head_dim: null }, { headDim: 8 }],
    ["olmoe", { pad_token_id: null }, { padding_token: null }],
    ["deepseek-v2", { q_lora_rank: null }, { q_lora_rank: null }],
    ["qwen2", { rope_scaling: null }, { rope_scaling: null }],
  ])("that is null is not one that is missing: %s %o", (folder, keys, wanted) => {
    expect(read({ ...published(folder), ...keys })).toMatchObject(wanted);
  });

  it("may have two names, and one value", () => {
    const json = published("qwen3-moe");
    expect(read({ ...without(json, "num_local_experts"), num_experts: 4 }).num_experts).toBe(4);
    expect(() => read({ ...json, num_local_experts: 4, num_experts: 2 })).toThrow(
      /num_experts is 2, but num_local_experts is 4; they are one setting/,
    );
  });

  it.each<[string, Json]>([
    ["llama", { hidden_act: "gelu" }],
    ["llama", { mlp_bias: true }],
    ["llama", { partial_rotary_factor: 0.5 }],
    ["llama", { sliding_window: 9 }],
    ["deepseek-v3", { scoring_func: "softmax" }],
    ["deepseek-v3", { topk_method: "greedy" }],
    ["deepseek-v2", { topk_method: "noaux_tc" }],
    ["deepseek-v3", { moe_layer_freq: 2 }],
    ["deepseek-v2", { num_experts_per_tok: null }],
    ["longcat-flash", { zero_expert_type: "copy" }],
    ["longcat-flash", { router_bias: true }],
    ["olmoe", { clip_qkv: -1 }],
    ["mixtral", { frobnicate: 3 }],
    ["mixtral", { hidden_size: "wide" }],
    ["mixtral", { attention_dropout: 0.1 }],
    // Found by fuzzing: lists of as many layers filled the memory before anybody asked how many there may be.
    ["qwen2-moe", { num_hidden_layers: 2 ** 30 }],
    ["qwen2", { layer_types: ["full_attention", "chunked_attention"] }],
  ])("that would change the numbers is refused: %s %o", (folder, keys) => {
    const [[key]] = Object.entries(keys);
    expect(() => read({ ...published(folder), ...keys })).toThrow(
      new RegExp(`^config\\.json: ${key} is .*wanted`),
    );
  });

  it.each([
    "aux_loss_alpha",
    "bos_token_id",
    "ep_size",
    "initializer_range",
    "num_nextn_predict_layers",
    "output_router_logits",
    "pretraining_tp",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "seq_aux",
    "use_cache",
  ])("that changes no number may say anything: %s", (key) => {
    const json = published("deepseek-v3");
    expect(unlikeTraining(read({ ...json, [key]: 1 }))).toEqual(unlikeTraining(read(without(json, key))));
  });
});

describe("RoPE", () => {
  const json = without(published("llama"), "rope_parameters");
  const llama3 = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8 };

  it("is written the old way or the new", () => {
    const scaling = { rope_type: "llama3", ...llama3 };
    const old = read({ ...json, rope_theta: 50, rope_scaling: { type: "llama3", ...llama3 } });
    expect(old).toMatchObject({ rope_theta: 50, rope_scaling: scaling });
    expect(unlikeTraining(read({ ...json, rope_parameters: { rope_theta: 50, ...scaling } }))).toEqual(
      unlikeTraining(old),
    );
  });

  it("goes by what is inside the dictionary", () => {
    const inside = { rope_theta: 50, rope_type: "default" };
    expect(read({ ...json, rope_theta: 7, rope_parameters: inside }).rope_theta).toBe(50);
  });

  it("was of the longest sequence where nothing else is said", () => {
    const rope_scaling = { type: "yarn", factor: 2, mscale: 0 };
    expect(read({ ...json, rope_scaling }).rope_scaling).toMatchObject({
      original_max_position_embeddings: json.max_position_embeddings,
      beta_fast: 32,
      mscale: undefined,
    });
  });

  it.each([
    [{ rope_type: "linear", factor: 2 }, /rope_scaling\.rope_type is "linear".*wanted "default"/],
    [{ type: "yarn", factor: 2, temper: 1 }, /rope_scaling\.temper is 1/],
    [{ rope_type: "llama3", factor: 2 }, /rope_scaling\.low_freq_factor is missing/],
    ["long", /rope_scaling is "long"/],
  ])("of a kind that is not supported is refused: %o", (rope_scaling, message) => {
    expect(() => read({ ...json, rope_scaling })).toThrow(message);
  });
});

describe("windows", () => {
  const window = { use_sliding_window: true, sliding_window: 4, max_window_layers: 1 };
  const plain = (folder: string): Json => without(published(folder), "layer_types", "mlp_only_layers");

  it.each<[string, Json, readonly number[] | undefined]>([
    ["mixtral", window, undefined],
    ["qwen3-moe", window, undefined],
    ["qwen2", window, [1]],
    ["qwen3", window, [1]],
    ["qwen2-moe", { ...window, num_hidden_layers: 4, max_window_layers: 3 }, [0, 2]],
    ["qwen2", { ...window, layer_types: ["sliding_attention", "full_attention"] }, [0]],
  ])("are of the layers that the family says: %s", (folder, keys, layers) => {
    const given = folder === "mixtral" ? { sliding_window: 4 } : keys;
    const config = read({ ...plain(folder), ...given });
    expect(config.sliding_window).toBe(4);
    expect(config.sliding_window_layers).toEqual(layers);
  });

  it("are none where they are switched off, whatever the number", () => {
    const config = read({ ...plain("qwen2"), use_sliding_window: false, sliding_window: 0 });
    expect(config.sliding_window).toBeNull();
  });
});
