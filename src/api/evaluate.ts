import { BOUNDS, checkBounds, defaultSequence } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { QUANTISED_FORMS } from "../kernel/quantise.js";
import { launch } from "../launch/launch.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { type EvaluateResult, type EvaluateTask, evaluateJob } from "../train/evaluate.js";
import { evaluationNeed } from "../train/memory-need.js";
import { announceMemory, modelAt, rankPlaces } from "./memory.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** What to evaluate, on which text, and how to run it. */
export interface EvaluateOptions extends RunOptions, EvaluateTask, MemoryOptions {}

/**
 * Validation loss (nats per token) and perplexity of a model.
 * @throws InputError when the checkpoint is missing or damaged, the sequence is too long for the model, or there is too
 *   little memory
 */
export async function evaluate(options: EvaluateOptions): Promise<EvaluateResult> {
  const { model, corpus, encoding, cache, batches, batchSize, sequence, capacity, documentMask, quantize } =
    options;
  checkBounds("evaluate", options, {
    batches: BOUNDS.batches,
    batchSize: BOUNDS.batch,
    sequence: BOUNDS.sequence,
  });
  if (quantize !== undefined && !QUANTISED_FORMS.includes(quantize))
    throw new InputError(`evaluate: quantize is ${shown(quantize)}, wanted int8 or int4`);
  const config = modelAt(model);
  const shape = {
    corpus: corpus ?? "sotu",
    batch: batchSize ?? 4,
    sequence: sequence ?? defaultSequence(config.max_position_embeddings),
  };
  announceMemory(evaluationNeed(config, { ...rankPlaces(options.ranks), ...shape }), options);
  const task = {
    model,
    corpus,
    encoding,
    cache,
    batches,
    batchSize,
    sequence,
    capacity,
    documentMask,
    quantize,
  };
  return (await launch(evaluateJob, task, launchOptions(options))).result;
}
