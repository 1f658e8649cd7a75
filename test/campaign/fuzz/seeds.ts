/** Right inputs, small ones, that wrong ones are made from. */
import { singleCommunicator } from "../../../src/comm/single.js";
import { modelToJson, resolveModel } from "../../../src/model/config.js";
import { listParameters } from "../../../src/model/parameters.js";
import { safetensorsBytes } from "../../../src/storage/safetensors.js";
import { readRunConfig } from "../../../src/train/config.js";
import { joined } from "./mutate.js";

export * from "./tokenizer-seeds.js";

export const WORLD = singleCommunicator();

export const MODEL = {
  arch: "scmoe-pos2",
  vocab_size: 40,
  hidden_size: 8,
  intermediate_size: 8,
  num_attention_heads: 2,
  num_hidden_layers: 2,
  num_experts: 2,
  max_position_embeddings: 12,
};
export const CONFIG = resolveModel(MODEL);
export const MODEL_JSON = modelToJson(CONFIG);
export const SHAPES = new Map(listParameters(CONFIG).map(({ name, dims }) => [name, dims]));

type Dims = readonly number[];
export function tensors(shapes: Iterable<readonly [string, Dims]>): Uint8Array {
  return joined(
    ...safetensorsBytes(
      [...shapes].map(([name, dims]) => ({
        name,
        dtype: "F32",
        dims,
        data: new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(0.5),
      })),
    ),
  );
}

export const WEIGHTS = tensors(SHAPES);
export const MOMENTS = tensors(
  [...SHAPES].flatMap(([name, dims]) =>
    ["exp_avg", "exp_avg_sq"].map((m) => [`${name}.${m}`, dims] as const),
  ),
);
/** Of every type that the format has and we read. */
export const FEW_TENSORS = {
  header: {
    __metadata__: { format: "pt" },
    a: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
    b: { dtype: "I32", shape: [2], data_offsets: [24, 32] },
    c: { dtype: "F16", shape: [4], data_offsets: [32, 40] },
    d: { dtype: "BF16", shape: [4], data_offsets: [40, 48] },
    e: { dtype: "I64", shape: [], data_offsets: [48, 56] },
    f: { dtype: "F64", shape: [1, 1], data_offsets: [56, 64] },
    g: { dtype: "U8", shape: [0], data_offsets: [64, 64] },
  },
  bytes: 64,
};

export function safetensors(header: string, body: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(header);
  return joined(new Uint8Array(new BigUint64Array([BigInt(text.length)]).buffer), text, body);
}

export const RUN = readRunConfig(undefined, [], { model: MODEL, train: { steps: 10 } });
export const RUN_JSON = {
  scmoe: "0.1.0",
  node: "v20",
  ranks: 1,
  started: "2026-01-01T00:00:00Z",
  config: RUN,
};
export const TRAINER_STATE = { step: 10, seed: 0, train_loss: 3.5 };
export const RUN_YAML = `model:
  preset: tiny
  arch: top2 # the baseline
  hidden_size: 64
  capacity_factor: 1.25
data: { corpus: sotu, sequence_length: 64 }
train:
  steps: 200
  batch_size: 16
  learning_rate: 1e-3
  betas: [0.9, 0.95]
  clip_norm: ~
  recompute: false
parallel: { zero: true, wire: bf16 }
schedule:
  policy: "pipelined(2)"
`;
export const SETS = [
  "train.steps=100",
  "model.arch=scmoe-pos3",
  "model.num_experts=16",
  "model.capacity_factor=null",
  "train.betas=[0.9, 0.999]",
  "schedule.policy=adaptive(2)",
  "data.corpus=books/",
  "parallel.wire=bf16",
  "train.seed=3",
];
export const CLUSTER_YAML = `name: two nodes
nodes: 2
devices_per_node: 8
tflops: 312
memory_gb_per_s: 2039
intra_gb_per_s: 200
inter_gb_per_s: 25
uplink_gb_per_s: 100
latency_us: 20
compute_efficiency: 0.5
link_efficiency: 0.7
source: a data sheet
`;
export const CALIBRATION = {
  format: "scmoe calibration 2",
  source: "a machine",
  ranks: 2,
  flops_per_ms: { attention: 1e8, "attention'": 9e7, mlp: 1.1e8 },
  memory_bytes_per_ms: 1e7,
  link: { bytes_per_ms: 125_000, latency_ms: 0.05 },
};
export const METRICS = [1, 2, 3]
  .map((step) => `${JSON.stringify({ step, loss: 5 - step, layers: [{ load: [1, 2], dropped: 0 }] })}\n`)
  .join("");
/** What other tools write. */
export const HF_CONFIGS: readonly Record<string, unknown>[] = [
  {
    architectures: ["MixtralForCausalLM"],
    model_type: "mixtral",
    hidden_act: "silu",
    hidden_size: 16,
    intermediate_size: 32,
    max_position_embeddings: 64,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    num_experts_per_tok: 2,
    num_hidden_layers: 2,
    num_local_experts: 4,
    rms_norm_eps: 1e-5,
    rope_theta: 1e6,
    rope_parameters: { rope_type: "default", rope_theta: 1e6 },
    sliding_window: null,
    vocab_size: 100,
    attention_dropout: 0,
    router_aux_loss_coef: 0.02,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
  },
  {
    architectures: ["DeepseekV3ForCausalLM"],
    model_type: "deepseek_v3",
    hidden_size: 16,
    num_attention_heads: 2,
    num_hidden_layers: 2,
    q_lora_rank: null,
    kv_lora_rank: 8,
    qk_nope_head_dim: 4,
    qk_rope_head_dim: 4,
    v_head_dim: 4,
    n_routed_experts: 4,
    n_group: 2,
    topk_group: 1,
    num_experts_per_tok: 2,
    first_k_dense_replace: 1,
    rope_scaling: { type: "yarn", factor: 4, mscale: 1, mscale_all_dim: 1 },
    vocab_size: 50,
    eos_token_id: [1, 2],
  },
  {
    model_type: "qwen2",
    hidden_size: 16,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    num_hidden_layers: 2,
    use_sliding_window: true,
    sliding_window: 4,
    max_window_layers: 1,
    layer_types: ["full_attention", "sliding_attention"],
    vocab_size: 50,
  },
  MODEL,
];
export const FIXTURE = {
  config: MODEL,
  learning_rate: 1e-3,
  weight_decay: 0.1,
  betas: [0.9, 0.95],
  eps: 1e-8,
  clip_norm: 1,
  steps: [{ lm_loss: 3.7, balance_loss: 1, loss: 3.71, grad_norm: 1 }],
};
export const FIXTURE_TOKENS = safetensors(
  JSON.stringify({ tokens: { dtype: "I32", shape: [1, 2, 5], data_offsets: [0, 40] } }),
  new Uint8Array(40),
);
export const POLICIES = [
  "sequential",
  "pipelined(2)",
  "fixed(3)",
  "fixed(four-stage)",
  "adaptive",
  "adaptive(4)",
];
export const LINKS = ["10gbit,20us", "1gbit,50us", "178mbit", "1.5 tbit/s, 3 ms"];
export const NAMES = [
  "dense",
  "top2",
  "shared",
  "scmoe2-pos2-l0pos1",
  "dgmoe-share",
  "longcat12",
  "farskip2",
  "tiny",
  "gpt3-moe-xl",
  "8xA800-NVLink",
];
export const CASES = [
  "top2:sequential scmoe-pos2 top2",
  "all:adaptive",
  "top2:pipelined(2), shared:fixed(1)",
];
export const HOSTS = ["a,b", "a:4,b:4", "node-1.cluster:2"];
