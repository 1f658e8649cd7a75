/** Models and machines that others have measured, as far as their sources tell (docs/predictions.md). */
import type { ModelInput } from "../src/model/config.js";
import { preset } from "../src/model/presets.js";
import { type Cluster, cluster } from "../src/simulate/clusters.js";

/** SwinV2-MoE-S, stages 3 and 4: windows of the whole 12 × 12 or 6 × 6 image; eight experts, MoE in every second block. */
export function swin(experts: number): readonly { model: ModelInput; tokens: number }[] {
  const stage = (width: number, layers: number, heads: number, tokens: number) => ({
    tokens,
    model: {
      arch: "top2",
      vocab_size: 2,
      hidden_size: width,
      intermediate_size: 4 * width,
      num_attention_heads: heads,
      num_hidden_layers: layers,
      num_experts: experts,
      max_position_embeddings: tokens,
      capacity_factor: 1.25,
    },
  });
  return [stage(384, 18, 12, 144), stage(768, 2, 24, 36)];
}

/** Stages 1 and 2 have no MoE: two blocks each, of 4 and 16 times as many tokens, windows of 144. */
export function swinDense(
  batch: number,
): readonly { at: { readonly model: ModelInput; readonly batch: number; readonly sequence: number } }[] {
  return [
    [96, 3, 16],
    [192, 6, 4],
  ].map(([width, heads, windows]) => ({
    at: {
      batch: batch * windows,
      sequence: 144,
      model: {
        arch: "dense",
        vocab_size: 2,
        hidden_size: width,
        intermediate_size: 4 * width,
        num_attention_heads: heads,
        num_hidden_layers: 2,
        max_position_embeddings: 144,
      },
    },
  }));
}

/** Nemotron 3 Nano's sizes: every block's first half is computed as attention, which costs about as much as its Mamba layers. */
export const NEMOTRON_NANO: ModelInput = {
  arch: "scmoe6-pos1",
  style: "gpt",
  vocab_size: 2,
  hidden_size: 2688,
  intermediate_size: 1856,
  shared_expert_intermediate_size: 3712,
  num_attention_heads: 32,
  num_key_value_heads: 2,
  head_dim: 128,
  num_hidden_layers: 8,
  num_experts: 128,
  moe_layer_interval: 1,
  max_position_embeddings: 8192,
};

/** H800: an H100 with 400 GB/s of NVLink in place of 900; here 200 Gbit/s of RDMA per device (LongCat-Flash's report). */
export const H800: Cluster = {
  ...cluster("4x8xH100-IB"),
  name: "4×8×H800",
  intraBytesPerMs: 200e6,
  interBytesPerMs: 25e6,
};

/**
 * Copies of a token that leave its node, of eight choices over four nodes, over those nodes that it has a choice on: so much
 * less travels where a node gets one copy of a token and passes it on by itself.
 */
export const ONE_COPY_PER_NODE = (8 * (3 / 4)) / (3 * (1 - (3 / 4) ** 8));

/** The report's times of a layer in decoding, in ms: attention, dispatch, experts, combine. The rest, it says, is hidden. */
export const LONGCAT_DECODE = { attention: 0.264, dispatch: 0.236, expert: 0.06, combine: 0.472 };

/** Layers from the middle of LongCat-Flash. */
export const LONGCAT: ModelInput = { ...preset("longcat-flash"), vocab_size: 2, num_hidden_layers: 8 };
/** MI300X by its data sheet: 1307 TFLOPS, 5.3 TB/s; seven links of 64 GB/s per direction. */
export const MI300X: Cluster = {
  ...cluster("8xH100"),
  name: "8×MI300X",
  flopsPerMs: 1307e9,
  memoryBytesPerMs: 5300e6,
  memoryBytes: 192e9,
  intraBytesPerMs: 448e6,
  interBytesPerMs: 448e6,
};

export const DEEPSEEK_V3: ModelInput = {
  arch: "farskip8",
  style: "llama",
  attention: "latent",
  vocab_size: 2,
  hidden_size: 7168,
  intermediate_size: 2048,
  num_attention_heads: 128,
  num_hidden_layers: 4,
  num_experts: 256,
  moe_layer_interval: 1,
  max_position_embeddings: 4096,
  q_lora_rank: 1536,
  kv_lora_rank: 512,
  qk_nope_head_dim: 128,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
};

export const LLAMA_4_SCOUT: ModelInput = {
  arch: "farskip",
  style: "llama",
  vocab_size: 2,
  hidden_size: 5120,
  intermediate_size: 8192,
  num_attention_heads: 40,
  num_key_value_heads: 8,
  num_hidden_layers: 8,
  num_experts: 16,
  moe_layer_interval: 1,
  max_position_embeddings: 8192,
};
