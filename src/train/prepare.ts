/** Everything a run needs before its first step: data, model, weights, sessions. */
import { join } from "node:path";
import { agree } from "../comm/collectives.js";
import { InputError, InterruptedError } from "../core/errors.js";
import { VERSION } from "../core/version.js";
import { numWindows, trainBatch } from "../data/batches.js";
import { type PreparedData, prepareData } from "../data/prepare.js";
import type { Engine } from "../engine/engine.js";
import type { JobContext } from "../launch/job.js";
import { checkpointConfig } from "../run/load-weights.js";
import { findCheckpoint } from "../storage/checkpoint-names.js";
import { CheckpointReader } from "../storage/checkpoint-reader.js";
import { removeUnfinished } from "../storage/checkpoint-writer.js";
import { type TrainerState, loadCheckpoint } from "./checkpoint.js";
import { type RunConfig, modelOf } from "./config.js";
import { Evaluator } from "./evaluate.js";
import { learningRateAt } from "./optimizer.js";
import { Placer } from "./placer.js";
import type { StepEvent } from "./event.js";
import type { OpenedRun } from "./open-run.js";
import { startRun } from "./run-directory.js";
import type { MicroBatch, StepOptions } from "./step.js";
import { type Trainee, createTrainee } from "./trainee.js";

/** How a step's sequences are dealt. */
export interface BatchShape {
  /** Sequences per rank and micro-batch. */
  readonly batch: number;
  readonly sequence: number;
  readonly microBatches: number;
}

export interface PreparedRun {
  readonly context: JobContext<StepEvent>;
  readonly config: RunConfig;
  readonly rank: Trainee;
  readonly data: PreparedData;
  readonly shape: BatchShape;
  readonly tokensPerStep: number;
  readonly placer: Placer;
  readonly evaluator: Evaluator;
  /** Steps done before. */
  readonly startStep: number;
}

/** @throws InputError, EnvironmentError; nothing has been written then, unless to the cache of prepared data */
export function prepareRun(context: JobContext<StepEvent>, source: OpenedRun, engine: Engine): PreparedRun {
  const { world } = context;
  const { config } = source;
  agree(world, {
    "the version of scmoe": VERSION,
    "the configuration": JSON.stringify({ ...config, data: { ...config.data, cache: "" } }),
  });
  const model = modelOf(config);
  const shape = divideBatch(config, world.size);
  const data = prepare(context, config, model.vocab_size);
  const rank = createTrainee({
    config: model,
    engine,
    world,
    epSize: config.parallel.expert_parallel,
    zero: config.parallel.zero,
  });
  const { batch, sequence } = shape;
  const placer = new Placer(rank, {
    policy: config.schedule.policy,
    program: {
      batch,
      sequence,
      epSize: rank.ep.size,
      recompute: config.train.recompute,
      splitWeightGradients: config.train.split_weight_gradients,
      wire: config.parallel.wire,
    },
    say: (line) => context.say(line),
  });
  const evaluator = new Evaluator(rank, data.validation, {
    sequence,
    batch,
    batches: config.train.eval_batches,
  });
  const startStep = source.resume ? resume(context, rank, source) : start(rank, source);
  return {
    context,
    config,
    rank,
    data,
    shape,
    tokensPerStep: config.train.batch_size * sequence,
    placer,
    evaluator,
    startStep,
  };
}

function prepare(context: JobContext<StepEvent>, { data: of }: RunConfig, vocabSize: number): PreparedData {
  const data = prepareData({
    corpus: of.corpus,
    vocabSize,
    tokenizer: of.tokenizer,
    cacheDirectory: of.cache,
    onProgress: (what, share) => {
      if (context.interrupted())
        throw new InterruptedError("Interrupted while preparing data: there is nothing to save yet");
      context.progress(`${what}: ${(share * 100).toFixed(0)} %`);
    },
  });
  // Before anything is written: too short a corpus leaves no run directory behind.
  for (const file of [data.train, data.validation]) numWindows(file, of.sequence_length);
  return data;
}

function start(rank: Trainee, { config, directory }: OpenedRun): number {
  rank.weights.initialize(config.train.seed, rank.config.initializer_range);
  if (rank.world.rank === 0) startRun(directory, { ranks: rank.world.size, config });
  return 0;
}

function resume(
  { world, say }: JobContext<StepEvent>,
  rank: Trainee,
  { directory, checkpoint }: OpenedRun,
): number {
  const reader = new CheckpointReader(checkpoint ?? findCheckpoint(directory));
  reader.verify({ turn: world.rank, of: world.size });
  const stored = checkpointConfig(reader);
  if (JSON.stringify(stored) !== JSON.stringify(rank.config))
    throw new InputError(`${reader.directory}: its config.json differs from the model of this run`);
  loadCheckpoint(rank, reader);
  const { step } = reader.json<TrainerState>("trainer_state.json");
  if (!Number.isInteger(step) || step < 0)
    throw new InputError(`${reader.directory}/trainer_state.json: step is ${step}, wanted a count`);
  reader.close();
  if (world.rank === 0) removeUnfinished(join(directory, "checkpoints"));
  say(`Resuming ${directory} after step ${step}`);
  return step;
}

/** What a step is given; `step` counts from 0. */
export function stepInputs(
  { config, rank, data, shape }: PreparedRun,
  step: number,
): { readonly batches: readonly MicroBatch[]; readonly options: StepOptions } {
  const { train } = config;
  const { world } = rank;
  const dealt = { ...shape, ranks: world.size, seed: train.seed };
  const learningRate = learningRateAt(step, {
    peak: train.learning_rate,
    minimum: train.min_learning_rate ?? train.learning_rate / 10,
    warmupSteps: train.warmup_steps ?? Math.ceil(train.steps / 20),
    totalSteps: train.steps,
  });
  return {
    batches: Array.from({ length: shape.microBatches }, (_, micro) =>
      trainBatch(data.train, dealt, { step, micro, rank: world.rank }),
    ),
    options: { step, seed: train.seed, learningRate, optimizer: train },
  };
}

function divideBatch({ train, data }: RunConfig, ranks: number): BatchShape {
  const { batch_size, micro_batch_size } = train;
  const batch = micro_batch_size ?? batch_size / ranks;
  const microBatches = batch_size / (ranks * batch);
  if (!Number.isInteger(microBatches) || !Number.isInteger(batch))
    throw new InputError(
      `train.batch_size ${batch_size} is not a multiple of ${ranks} rank(s)${micro_batch_size ? ` × micro_batch_size ${micro_batch_size}` : ""}`,
    );
  return { batch, sequence: data.sequence_length, microBatches };
}
