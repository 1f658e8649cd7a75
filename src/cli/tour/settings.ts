/** What the tour trains, on what, and for how long: all of its numbers are here. */
import type { CompareOptions } from "../../api/compare.js";
import type { RunInput } from "../../train/config.js";

/** The baseline, and what is compared with it. `name` is for sentences, `title` for tables. */
export const MODELS = [
  { arch: "top2", policy: "sequential", name: "top-2", title: "top-2, sequential" },
  { arch: "scmoe-pos2", policy: "adaptive", name: "ScMoE", title: "ScMoE, overlapped" },
] as const;

const PRESET = "tiny-llama";
export const RANKS = 2;
/** Sequences per rank and micro-batch, and micro-batches of a step. */
const BATCH = 8;
const MICRO_BATCHES = 4;
export const STEPS = 150;
const LEARNING_RATE = 0.005;
/** Long, for so short a run: an early peak costs half a nat. */
const WARM_UP_SHARE = 0.3;
/** Steps between evaluations and between checkpoints. */
const INTERVAL = 75;

/** Of a sequential top-2 step in this mode, what communication takes: it chooses the link. */
export const SHARE = 0.48;
const SHARE_MODE = "step";
const MODES = ["forward", "train", SHARE_MODE] as const;
const LATENCY_MS = 0.05;

/** Of the table that grows while a model trains, at most. */
export const TABLE_ROWS = 13;

export const PROMPT = "My fellow citizens,";
export const SAMPLE = { maxNewTokens: 60, temperature: 0.7, seed: 1 } as const;

/** The same models, sizes and ranks as in the training that follows. */
export function comparison(communicationShare: number): CompareOptions {
  return {
    model: PRESET,
    cases: MODELS.map(({ arch, policy }) => ({ arch, policy })),
    modes: MODES,
    batch: BATCH,
    microBatches: MICRO_BATCHES,
    communicationShare,
    shareMode: SHARE_MODE,
    latencyMs: LATENCY_MS,
    ranks: RANKS,
  };
}

export function training({ arch, policy }: (typeof MODELS)[number], steps: number): RunInput {
  return {
    model: { preset: PRESET, arch },
    schedule: { policy },
    train: {
      steps,
      batch_size: RANKS * BATCH * MICRO_BATCHES,
      micro_batch_size: BATCH,
      learning_rate: LEARNING_RATE,
      warmup_steps: Math.ceil(steps * WARM_UP_SHARE),
      eval_interval: INTERVAL,
      checkpoint_interval: INTERVAL,
    },
  };
}
