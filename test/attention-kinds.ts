/** Attention of every kind, small: what its tests go through. */
import type { Dim, Kernel } from "../src/kernel/kernel.js";
import type { AttentionReach } from "../src/model/parts/attention-frame.js";
import { type AttentionShape, attentionKernel } from "../src/model/parts/attention.js";
import { type LatentAttentionShape, latentAttentionKernel } from "../src/model/parts/latent-attention.js";

const base = { width: 24, heads: 4, kvHeads: 4, headDim: 6 };
export const gpt: AttentionShape = {
  ...base,
  bias: true,
  outBias: true,
  norm: { kind: "layer", width: 24, eps: 1e-5 },
};
export const llama: AttentionShape = {
  ...base,
  bias: false,
  outBias: false,
  norm: { kind: "rms", width: 24, eps: 1e-5 },
  rope: { theta: 1000 },
};
const latent: LatentAttentionShape = {
  width: 24,
  heads: 3,
  qRank: 10,
  kvRank: 7,
  plainDim: 4,
  ropeDim: 6,
  valueDim: 5,
  bias: true,
  outBias: true,
  scaled: true,
  norm: { kind: "rms", width: 24, eps: 1e-5 },
  rope: { theta: 1000, pairs: "neighbours" },
};

type KernelOf = (sequence: Dim, reach?: AttentionReach) => Kernel;
const grouped =
  (shape: AttentionShape): KernelOf =>
  (sequence, reach) =>
    attentionKernel(shape, sequence, reach);
const ofLatent =
  (shape: LatentAttentionShape): KernelOf =>
  (sequence, reach) =>
    latentAttentionKernel(shape, sequence, reach);

export const KINDS: [string, KernelOf][] = [
  ["gpt", grouped(gpt)],
  ["llama", grouped(llama)],
  ["gpt, grouped heads", grouped({ ...gpt, kvHeads: 2 })],
  ["llama, grouped heads", grouped({ ...llama, kvHeads: 1 })],
  ["gpt, window", grouped({ ...gpt, window: 5 })],
  ["llama, grouped heads, window", grouped({ ...llama, kvHeads: 2, window: 70 })],
  ["norms of heads, gate", grouped({ ...llama, kvHeads: 2, queryKeyNorm: "head", gate: true })],
  [
    "norm of the projection, clamped, neighbours turn, stretched",
    grouped({
      ...llama,
      kvHeads: 2,
      queryKeyNorm: "projection",
      clip: 0.5,
      rope: {
        theta: 1000,
        pairs: "neighbours",
        scaling: {
          rope_type: "yarn",
          factor: 4,
          original_max_position_embeddings: 64,
          beta_fast: 32,
          beta_slow: 1,
          truncate: true,
        },
      },
    }),
  ],
  ["latent", ofLatent(latent)],
  [
    "latent, queries not compressed, gate",
    ofLatent({ ...latent, qRank: undefined, scaled: false, gate: true }),
  ],
];
