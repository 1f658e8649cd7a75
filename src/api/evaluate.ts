import { BOUNDS, checkBounds } from "../core/bounds.js";
import { launch } from "../launch/launch.js";
import { type EvaluateResult, type EvaluateTask, evaluateJob } from "../train/evaluate.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** What to evaluate, on which text, and how to run it. */
export interface EvaluateOptions extends RunOptions, EvaluateTask {}

/**
 * Validation loss (nats per token) and perplexity of a model.
 * @throws InputError when the checkpoint is missing or damaged, or the sequence is too long for the model
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluateResult> {
  const { model, corpus, encoding, cache, batches, batchSize, sequence, capacity, documentMask } = options;
  checkBounds("evaluate", options, {
    batches: BOUNDS.batches,
    batchSize: BOUNDS.batch,
    sequence: BOUNDS.sequence,
  });
  const task = { model, corpus, encoding, cache, batches, batchSize, sequence, capacity, documentMask };
  return (await launch(evaluateJob, task, launchOptions(options))).result;
}
