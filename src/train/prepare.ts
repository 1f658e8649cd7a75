/** Everything a run needs before its first step: data, model, weights, sessions. */
import { join } from "node:path";
import { agree } from "../comm/collectives.js";
import { InputError } from "../core/errors.js";
import { VERSION } from "../core/version.js";
import { trainBatch } from "../data/batches.js";
import type { PreparedData } from "../data/prepare.js";
import type { Engine } from "../engine/engine.js";
import type { JobContext } from "../launch/job.js";
import { type RunConfig, modelOf } from "./config.js";
import { Evaluator } from "./evaluate.js";
import { learningRateAt } from "./optimizer.js";
import { Placer } from "./placer.js";
import { prepareText } from "./prepare-text.js";
import type { StepEvent } from "./event.js";
import type { OpenedRun } from "./open-run.js";
import type { MicroBatch } from "./micro-batch.js";
import { type Progressed, resume, start } from "./resume.js";
import type { StepOptions } from "./step.js";
import { type StepSessions, runSize } from "./step-sessions.js";
import { Teacher, openTeacher, refuseOtherTokenizer } from "./teacher.js";
import { type Trainee, createTrainee } from "./trainee.js";

/** How a step's sequences are dealt. */
export interface StepShape {
  /** Sequences per rank and micro-batch. */
  readonly batch: number;
  readonly sequence: number;
  readonly microBatches: number;
  /** Of these, those that are one program. */
  readonly atOnce: number;
}

export interface PreparedRun {
  readonly context: JobContext<StepEvent>;
  readonly config: RunConfig;
  readonly rank: Trainee;
  readonly data: PreparedData;
  readonly shape: StepShape;
  readonly tokensPerStep: number;
  readonly placer: Placer;
  readonly evaluator: Evaluator;
  /** How far the run had come before. */
  readonly start: Progressed;
}

/** @throws InputError, EnvironmentError; nothing has been written then, unless to the cache of prepared data */
export function prepareRun(context: JobContext<StepEvent>, opened: OpenedRun, engine: Engine): PreparedRun {
  const { world } = context;
  const { config } = opened;
  agree(world, { "the version of scmoe": VERSION, ...config, data: { ...config.data, cache: undefined } });
  const model = modelOf(config);
  const shape = divideBatch(config, world.size);
  const data = prepareText(context, opened, model.vocab_size);
  const { batch, sequence, microBatches } = shape;
  const trainee = createTrainee({
    config: model,
    engine,
    world,
    epSize: config.parallel.expert_parallel,
    zero: config.parallel.zero,
  });
  const { distill } = config.train;
  const opener = openTeacher(config);
  if (opener !== undefined) refuseOtherTokenizer(opener, join(data.directory, "tokenizer.json"));
  const teacher =
    opener && new Teacher(opener, config, { engine, world, epSize: trainee.ep.size, batch, sequence });
  const rank: Trainee = { ...trainee, teacher };
  const placer = new Placer(rank, {
    policy: config.schedule.policy,
    program: {
      batch,
      sequence,
      microBatches,
      microBatchesAtOnce: shape.atOnce,
      epSize: rank.ep.size,
      recompute: config.train.recompute,
      splitWeightGradients: config.train.split_weight_gradients,
      wire: config.parallel.wire,
      wireGradients: config.parallel.wire_gradients,
      documents: config.data.document_mask,
      distill: distill && { temperature: distill.temperature },
    },
    say: (line) => context.say(line),
  });
  const evaluator = new Evaluator(rank, data.validation, {
    sequence,
    batch,
    sequences: config.train.eval_batches,
    withCapacity: config.train.eval_capacity,
    endOfText: documentEnd(config, data),
  });
  const { resume: resumed } = opened;
  const begun =
    resumed === undefined ? start(rank, opened, data) : resume(context, rank, { opened, resumed, data });
  for (const line of warnings(config, placer.sessions, begun)) context.say(line);
  return {
    context,
    config,
    rank,
    data,
    shape,
    tokensPerStep: config.train.batch_size * sequence,
    placer,
    evaluator,
    start: begun,
  };
}

/** What is allowed, but seldom meant. */
function warnings({ train, model }: RunConfig, { gates }: StepSessions, { step }: Progressed): string[] {
  const lines: string[] = [];
  if (step >= train.steps)
    lines.push(
      `The run is complete: ${step} of ${train.steps} steps are done; set train.steps to a larger number to go on`,
    );
  else if (train.warmup_steps > train.steps)
    lines.push(
      `train.warmup_steps ${train.warmup_steps} is more than train.steps ${train.steps}: the learning rate ends at ${((train.learning_rate * train.steps) / train.warmup_steps).toPrecision(3)}, below train.learning_rate ${train.learning_rate}`,
    );
  if (gates !== undefined)
    lines.push(
      `The balance loss counts the tokens of all micro-batches of a step, so their gates run ahead, about a quarter of a step more; train.micro_batches_at_once for all of them, if memory allows, or model.balance_statistics=micro_batch (now ${String(model.balance_statistics)}) does without`,
    );
  return lines;
}

/** What a step is given; `step` counts from 0. */
export function stepInputs(
  { config, rank, data, shape, start: begun }: PreparedRun,
  step: number,
  skipped: number,
): {
  readonly batches: readonly MicroBatch[];
  readonly options: StepOptions;
  /** Sequences that the steps before it took. */
  readonly position: number;
} {
  const { train } = config;
  const { world } = rank;
  const endOfText = documentEnd(config, data);
  const dealt = { ...shape, ranks: world.size, seed: train.seed, endOfText };
  const position = begun.position + (step - begun.step) * train.batch_size;
  const learningRate = learningRateAt(step, {
    peak: train.learning_rate,
    minimum: train.min_learning_rate,
    warmupSteps: train.warmup_steps,
    totalSteps: train.decay_steps,
  });
  return {
    batches: Array.from({ length: shape.microBatches }, (_, micro) =>
      trainBatch(data.train, dealt, { position, micro, rank: world.rank }),
    ),
    options: { step, skipped, seed: train.seed, learningRate, optimizer: train },
    position,
  };
}

/** The token that ends a document, where documents are told apart. */
function documentEnd({ data }: RunConfig, { tokenizer }: PreparedData): number | undefined {
  return data.document_mask ? tokenizer.endOfText : undefined;
}

/** @throws InputError when the sequences of a step cannot be dealt evenly */
export function divideBatch({ train, data }: RunConfig, ranks: number): StepShape {
  const { batch_size, micro_batch_size, micro_batches_at_once: microBatchesAtOnce } = train;
  const batch = micro_batch_size ?? batch_size / ranks;
  const microBatches = batch_size / (ranks * batch);
  if (!Number.isInteger(microBatches) || !Number.isInteger(batch))
    throw new InputError(
      `train.batch_size ${batch_size} is not a multiple of ${ranks} rank(s)${micro_batch_size ? ` × micro_batch_size ${micro_batch_size}` : ""}`,
    );
  const atOnce = runSize({ microBatches, microBatchesAtOnce });
  if (microBatches % atOnce !== 0)
    throw new InputError(
      `train.micro_batches_at_once ${atOnce} does not divide the ${microBatches} micro-batches of a step on each rank; wanted a divisor of ${microBatches}`,
    );
  return { batch, sequence: data.sequence_length, microBatches, atOnce };
}
