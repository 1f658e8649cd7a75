import { BOUNDS, checkBounds, defaultSequence } from "../core/bounds.js";
import { launch } from "../launch/launch.js";
import { targetOf } from "../model/convert/target.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { refuseToOverwrite } from "../storage/model-folder.js";
import { type ConvertResult, type ConvertTask, convertJob } from "../train/convert.js";
import { evaluationNeed } from "../train/memory-need.js";
import { announceMemory, modelAt, rankPlaces } from "./memory.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** What to convert, to what, and how to run it. */
export interface ConvertModelOptions extends RunOptions, ConvertTask, MemoryOptions {}

/**
 * Makes another architecture of a trained model: experts, attention and all else are kept, routed experts read through a
 * shortcut, a dense model's MLPs become experts. Writes a folder that is evaluated, sampled and trained on like any other.
 * @throws InputError when the source is missing or damaged, cannot become that, or the folder is not empty; EnvironmentError
 *   when it cannot be written, and then nothing is
 */
export async function convert(options: ConvertModelOptions): Promise<ConvertResult> {
  const {
    ranks,
    link: _link,
    deadlineMs: _deadline,
    signal: _signal,
    onEvent: _event,
    ignoreMemory: _ignore,
    ...task
  } = options;
  checkBounds("convert", options, {
    experts: BOUNDS.experts,
    interval: BOUNDS.layers,
    seed: BOUNDS.seed,
    batches: BOUNDS.batches,
    batchSize: BOUNDS.batch,
    sequence: BOUNDS.sequence,
    noise: { from: 0, to: 1 },
    routedShare: { from: 0, to: 1 },
  });
  const source = modelAt(task.source);
  const target = targetOf(source, task.to, task);
  refuseToOverwrite(task.out);
  const shape = {
    corpus: task.corpus ?? "sotu",
    batch: task.batchSize ?? 4,
    sequence: task.sequence ?? defaultSequence(source.max_position_embeddings),
  };
  const [before, after] = [source, target].map((config) =>
    evaluationNeed(config, { ...rankPlaces(ranks), ...shape }),
  );
  announceMemory(
    {
      ...after,
      weights: before.weights + after.weights,
      perRank: before.weights + after.perRank,
      process: after.process + after.ranks * before.weights,
    },
    options,
  );
  return (await launch(convertJob, task, launchOptions(options))).result;
}
