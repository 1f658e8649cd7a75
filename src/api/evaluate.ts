import { launch } from "../launch/launch.js";
import { type EvaluateResult, evaluateJob } from "../train/evaluate.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** What to evaluate, on which text. */
export interface EvaluateOptions extends RunOptions {
  /** Run directory (its newest checkpoint) or checkpoint. */
  readonly model: string;
  /** "sotu" (built in, the default), a text file, or a directory of .txt files; its held-out part is used. */
  readonly corpus?: string | undefined;
  /** Where prepared token files are kept. Default .scmoe/cache. */
  readonly cache?: string | undefined;
  /** Batches at most. Default 64. */
  readonly batches?: number | undefined;
  /** Sequences per rank and batch. Default 4. */
  readonly batchSize?: number | undefined;
  /** Tokens per sequence. Default: the model's longest. */
  readonly sequence?: number | undefined;
}

/**
 * Validation loss (nats per token) and perplexity of a model.
 * @throws InputError when the checkpoint is missing or damaged, or the sequence is too long for the model
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluateResult> {
  const { model: checkpoint, corpus = "sotu", cache = ".scmoe/cache", batches = 64, batchSize = 4 } = options;
  const task = { checkpoint, corpus, cache, batches, batch: batchSize, sequence: options.sequence };
  return (await launch(evaluateJob, task, launchOptions(options))).result;
}
