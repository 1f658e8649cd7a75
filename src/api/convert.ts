import { join } from "node:path";
import { BOUNDS, checkBounds, defaultSequence } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { launch } from "../launch/launch.js";
import { type ModelConfig } from "../model/config.js";
import { targetOf } from "../model/convert/target.js";
import type { MemoryNeed, MemoryOptions } from "../run/memory-need.js";
import { type OpenModel, openModel } from "../run/open-model.js";
import { refuseToOverwrite } from "../storage/model-folder.js";
import { type ConvertResult, type ConvertTask, convertJob } from "../train/convert.js";
import type { StepEvent } from "../train/event.js";
import { furtherTraining } from "../train/further-training.js";
import { evaluationNeed, trainingNeed } from "../train/memory-need.js";
import { openRun } from "../train/open-run.js";
import { trainingOf } from "../train/run-directory.js";
import { type GainOptions, type GainRow, conversionGain } from "./conversion-gain.js";
import { announceMemory, rankPlaces } from "./memory.js";
import { type RunOptions, launchOptions } from "./run-options.js";
import { type Trained, train } from "./train.js";

/** What to convert, to what, and how to run it. */
export interface ConvertModelOptions
  extends Omit<RunOptions<StepEvent>, "link">, ConvertTask, GainOptions, MemoryOptions {
  /** Steps to train on with the source as teacher. `out` is then a run directory, with the converted model in `out`/converted. */
  readonly trainSteps?: number | undefined;
  /** Keys of that training, "train.learning_rate=1e-4". */
  readonly sets?: readonly string[] | undefined;
}

/** A model converted, and what became of it. */
export interface Converted extends ConvertResult {
  /** With `trainSteps`. */
  readonly trained: Trained | null;
  /** With a link or cluster. */
  readonly gain: readonly GainRow[] | null;
}

/**
 * Makes another architecture of a trained model: experts, attention and all else are kept, routed experts read through a
 * shortcut, a dense model's MLPs become experts. Writes a folder that is evaluated, sampled and trained on like any other.
 * @throws InputError when the source is missing or damaged, cannot become that, or the folder is not empty; EnvironmentError
 *   when it cannot be written, and then nothing is
 */
export async function convert(options: ConvertModelOptions): Promise<Converted> {
  const { ranks, deadlineMs, signal, onEvent, ignoreMemory, trainSteps, sets = [], ...rest } = options;
  const { link, communicationShare, cluster, ...task } = rest;
  checkBounds("convert", options, {
    experts: BOUNDS.experts,
    interval: BOUNDS.layers,
    seed: BOUNDS.seed,
    batches: BOUNDS.batches,
    batchSize: BOUNDS.batch,
    sequence: BOUNDS.sequence,
    noise: { from: 0, to: 1 },
    routedShare: { from: 0, to: 1 },
    trainSteps: BOUNDS.steps,
    communicationShare: BOUNDS.properShare,
  });
  const source = openModel(task.source);
  source.close();
  const target = targetOf(source.config, task.to, task);
  refuseToOverwrite(task.out);
  if (sets.length > 0 && trainSteps === undefined)
    throw new InputError(
      "Keys can be set for the training after the conversion only; say how many steps (--train-steps)",
    );
  const how = { ranks, deadlineMs, signal, onEvent };
  const run =
    trainSteps === undefined ? undefined : trainingRun({ source, target, steps: trainSteps, task, sets });
  announceMemory(conversionNeed(source.config, target, options), options);
  if (run !== undefined) trainingNeed(openRun({ ...run, from: undefined }).config, rankPlaces(ranks));

  const out = run === undefined ? task.out : run.from;
  const { result } = await launch(convertJob, { ...task, out }, launchOptions(how));
  const trained = run === undefined ? null : await train({ ...run, ...how, ignoreMemory });
  const { train: trainedWith, data } = trainingOf(source.directory);
  const gain = await conversionGain(
    { source: source.config, target },
    { link, communicationShare, cluster },
    { signal, onEvent, batch: trainedWith.micro_batch_size, sequence: task.sequence ?? data.sequence_length },
  );
  return { ...result, trained, gain: gain ?? null };
}

function trainingRun(of: {
  readonly source: OpenModel;
  readonly target: ModelConfig;
  readonly steps: number;
  readonly task: ConvertTask;
  readonly sets: readonly string[];
}) {
  const { source, target, task, sets, steps } = of;
  const { corpus, encoding, cache, sequence } = task;
  const { directory: teacher, tokenizer } = source;
  const config = furtherTraining(target, trainingOf(teacher), { teacher, tokenizer, steps });
  const given = { corpus, encoding, cache, sequence_length: sequence };
  const data = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return {
    config: { ...config, data: { ...config.data, ...data } },
    sets,
    directory: task.out,
    from: join(task.out, "converted"),
  };
}

/** Source and target one after the other, in one process. */
function conversionNeed(source: ModelConfig, target: ModelConfig, options: ConvertModelOptions): MemoryNeed {
  const shape = {
    corpus: options.corpus ?? "sotu",
    batch: options.batchSize ?? 4,
    sequence: options.sequence ?? defaultSequence(source.max_position_embeddings),
  };
  const places = rankPlaces(options.ranks);
  const [before, after] = [source, target].map((config) => evaluationNeed(config, { ...places, ...shape }));
  const added = before.weights + before.activations;
  return {
    ...after,
    weights: after.weights + before.weights,
    activations: after.activations + before.activations,
    worstActivations: after.worstActivations + before.worstActivations,
    perRank: after.perRank + added,
    process: after.process + after.ranks * added,
  };
}
