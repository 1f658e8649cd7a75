/** How a converted model is trained on: like its source was, for fewer steps, with the source as its teacher. */
import { resolve } from "node:path";
import { type ModelConfig, modelToJson } from "../model/config.js";
import type { RunInput } from "./config.js";
import type { Training } from "./run-directory.js";

/** Of the peak that the source was trained with. */
const RATE = 0.5;
const SOURCE_RATE = 1e-3;

/** Keys of `train` that are as they were. */
const KEPT = [
  "batch_size",
  "micro_batch_size",
  "weight_decay",
  "betas",
  "eps",
  "clip_norm",
  "eval_batches",
  "on_nonfinite",
] as const satisfies readonly (keyof Training["train"])[];

/**
 * @param before how the source was trained, as far as that is known
 * @param of the teacher: the folder of the source
 */
export function furtherTraining(
  target: ModelConfig,
  before: Training,
  of: { readonly teacher: string; readonly tokenizer: string | undefined; readonly steps: number },
): RunInput {
  const { train, data } = before;
  const kept = Object.fromEntries(
    KEPT.flatMap((key) => (train[key] === undefined ? [] : [[key, train[key]]])),
  );
  const learning_rate = RATE * (train.learning_rate ?? SOURCE_RATE);
  return {
    model: modelToJson(target),
    data: { ...data, ...(of.tokenizer === undefined ? {} : { tokenizer: resolve(of.tokenizer) }) },
    train: {
      ...kept,
      steps: of.steps,
      learning_rate,
      // Another order of the text than the source has seen last.
      seed: (train.seed ?? 0) + 1,
      distill: { teacher: resolve(of.teacher) },
    },
  };
}
