/** Dense models: Llama, Qwen2, Qwen3. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";
import type { Family } from "./family.js";
import { readBiases, readGrouped, writeGrouped } from "./grouped.js";
import { type Defaults, readSizes, writeSizes } from "./sizes.js";
import { WINDOWS, readWindows, refuseWindows, writeWindows } from "./windows.js";

const SIZES = {
  hidden_size: 4096,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  rms_norm_eps: 1e-6,
  rope_theta: 1e4,
} as const;
const LLAMA: Defaults = {
  ...SIZES,
  vocab_size: 32_000,
  intermediate_size: 11_008,
  max_position_embeddings: 2048,
};
const QWEN: Defaults = {
  ...SIZES,
  vocab_size: 151_936,
  intermediate_size: 22_016,
  max_position_embeddings: 32_768,
};

export const llama: Family = {
  name: "llama",
  title: "Llama",
  architectures: ["LlamaForCausalLM", "LLaMAForCausalLM"],
  modelType: "llama",
  tensors: { names: {} },
  read(keys) {
    const sizes = readSizes(keys, LLAMA);
    refuseWindows(keys, sizes.num_hidden_layers);
    keys.only("mlp_bias", false, null);
    return {
      arch: "dense",
      ...sizes,
      ...readGrouped(keys, sizes.num_attention_heads, { kvHeads: "heads" }),
      ...readBiases(keys),
    };
  },
  write: (config) => ({
    ...writeSizes(config),
    ...writeGrouped(config),
    attention_bias: config.attention_bias,
    mlp_bias: false,
  }),
};

function readQwen(keys: ConfigKeys, headDim?: number): ModelInput & { readonly arch: "dense" } {
  const sizes = readSizes(keys, QWEN);
  return {
    arch: "dense",
    ...sizes,
    ...readGrouped(keys, sizes.num_attention_heads, { kvHeads: 32, headDim }),
    ...readWindows(keys, sizes.num_hidden_layers, WINDOWS.late),
  };
}

function writeQwen(config: ModelConfig): Record<string, unknown> {
  return {
    ...writeSizes(config),
    ...writeGrouped(config),
    ...writeWindows(config, { hasSwitch: true, isListed: true }),
  };
}

export const qwen2: Family = {
  name: "qwen2",
  title: "Qwen2",
  architectures: ["Qwen2ForCausalLM"],
  modelType: "qwen2",
  tensors: { names: {} },
  // Queries, keys and values have biases; no key says so.
  read: (keys) => ({ ...readQwen(keys), attention_bias: true, attention_out_bias: false }),
  write: writeQwen,
};

export const qwen3: Family = {
  name: "qwen3",
  title: "Qwen3",
  architectures: ["Qwen3ForCausalLM"],
  modelType: "qwen3",
  tensors: { names: {} },
  read: (keys) => ({ ...readQwen(keys, 128), ...readBiases(keys), query_key_norm: "head" }),
  write: (config) => ({ ...writeQwen(config), attention_bias: config.attention_bias }),
};
