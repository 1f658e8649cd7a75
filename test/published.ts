/** Tiny published models, one of every family. */
import { philox } from "../src/core/rng.js";
import { numElements } from "../src/core/tensor.js";
import { readConfig } from "../src/model/families/index.js";
import { publishedForm } from "../src/model/families/published-form.js";
import { writeModelFolder } from "../src/storage/model-folder.js";

const SIZES = {
  vocab_size: 40,
  hidden_size: 16,
  num_attention_heads: 4,
  num_hidden_layers: 3,
  max_position_embeddings: 64,
  bos_token_id: 1,
  eos_token_id: 2,
};
const GROUPED = { ...SIZES, num_key_value_heads: 2, intermediate_size: 24 };
const LATENT = {
  ...SIZES,
  q_lora_rank: 8,
  kv_lora_rank: 6,
  qk_nope_head_dim: 4,
  qk_rope_head_dim: 2,
  v_head_dim: 6,
};
const EXPERTS = { num_experts: 4, num_experts_per_tok: 2, moe_intermediate_size: 12 };
const DEEPSEEK = {
  ...LATENT,
  intermediate_size: 24,
  n_routed_experts: 4,
  num_experts_per_tok: 2,
  moe_intermediate_size: 12,
  n_shared_experts: 2,
  first_k_dense_replace: 1,
  n_group: 2,
  topk_group: 1,
};
const yarn = { rope_type: "yarn", factor: 4, rope_theta: 1e4, mscale: 1, mscale_all_dim: 0.5 };

/** config.json by family. */
export const PUBLISHED: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  llama: {
    architectures: ["LlamaForCausalLM"],
    ...GROUPED,
    tie_word_embeddings: true,
    rope_scaling: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 16,
    },
  },
  qwen2: {
    architectures: ["Qwen2ForCausalLM"],
    ...GROUPED,
    use_sliding_window: true,
    sliding_window: 8,
    max_window_layers: 1,
  },
  qwen3: { architectures: ["Qwen3ForCausalLM"], ...GROUPED, head_dim: 6 },
  mixtral: { architectures: ["MixtralForCausalLM"], ...GROUPED, num_local_experts: 4, sliding_window: 8 },
  qwen2_moe: {
    architectures: ["Qwen2MoeForCausalLM"],
    ...GROUPED,
    ...EXPERTS,
    shared_expert_intermediate_size: 20,
    decoder_sparse_step: 2,
  },
  qwen3_moe: {
    architectures: ["Qwen3MoeForCausalLM"],
    ...GROUPED,
    ...EXPERTS,
    head_dim: 6,
    mlp_only_layers: [1],
    norm_topk_prob: true,
  },
  olmoe: {
    architectures: ["OlmoeForCausalLM"],
    ...GROUPED,
    num_experts: 4,
    num_experts_per_tok: 3,
    clip_qkv: 2,
  },
  deepseek_v2: { architectures: ["DeepseekV2ForCausalLM"], ...DEEPSEEK, topk_method: "group_limited_greedy" },
  deepseek_v3: { architectures: ["DeepseekV3ForCausalLM"], ...DEEPSEEK, rope_scaling: yarn },
  longcat_flash: {
    architectures: ["LongcatFlashForCausalLM"],
    ...LATENT,
    num_hidden_layers: undefined,
    num_layers: 2,
    ffn_hidden_size: 24,
    expert_ffn_hidden_size: 12,
    n_routed_experts: 4,
    zero_expert_num: 2,
    moe_topk: 3,
  },
  instella_moe: { architectures: ["InstellaMoEForCausalLM"], model_type: "deepseek_v3", ...DEEPSEEK },
};

/** Writes such a folder with weights made from a seed, normal numbers around 0 or 1. */
export async function writePublished(family: string, directory: string, seed = 1): Promise<void> {
  const json = PUBLISHED[family];
  const { tensors } = publishedForm(readConfig(json, family).config, family);
  await writeModelFolder(directory, {
    tensors: tensors.map(({ name, dims, from: ours }) => {
      const data = new Float32Array(numElements(dims));
      philox(seed, name).fillNormal(data, name.includes("norm") ? 1 : 0, 0.2);
      if (ours === undefined) data.fill(0);
      return {
        name,
        dims,
        dtype: "F32",
        readInto: (out, from) => out.set(data.subarray(from, from + out.length)),
      };
    }),
    files: new Map([["config.json", Buffer.from(JSON.stringify(json))]]),
    shardBytes: 2 ** 14,
  });
}
