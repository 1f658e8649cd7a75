/** The training loop of one rank: steps, evaluation, checkpoints, metrics. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { agree, maxScalars } from "../comm/collectives.js";
import { nowMs } from "../core/clock.js";
import { InputError, InterruptedError } from "../core/errors.js";
import { collectGarbage } from "../core/garbage.js";
import { VERSION } from "../core/version.js";
import { numWindows, trainBatch } from "../data/batches.js";
import { type PreparedData, prepareData } from "../data/prepare.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import type { ModelConfig } from "../model/config.js";
import { type ParameterCount, countParameters } from "../model/parameters.js";
import { type JobContext, defineJob } from "../launch/job.js";
import { plannedMemory } from "../run/planned-memory.js";
import { type Rank, createRank } from "../run/rank.js";
import { median } from "../core/statistics.js";
import { combined } from "../timeline/summary.js";
import type { TimelineSummary } from "../timeline/timeline.js";
import { CheckpointReader, findCheckpoint, removeUnfinished } from "../storage/checkpoint-dir.js";
import { openMetrics } from "../storage/metrics.js";
import { openTensorboard } from "../storage/tensorboard.js";
import { type TrainerState, checkpointConfig, loadCheckpoint, saveCheckpoint } from "./checkpoint.js";
import { type RunConfig, modelOf } from "./config.js";
import { evaluate } from "./evaluate.js";
import type { StepEvent } from "./event.js";
import { learningRateAt } from "./optimizer.js";
import { StepPicture } from "./picture.js";
import { Planner } from "./planner.js";
import { OverlapProof, type ProofReport } from "./proof.js";
import { boardScalars, progressLine, routingNames, stepRow, stepTiming } from "./report.js";
import { startRun } from "./run-directory.js";
import { type StepOptions, type StepReport, trainStep } from "./step.js";

export interface TrainOptions {
  readonly config: RunConfig;
  readonly directory: string;
  readonly resume: boolean;
  /** With `resume`: the checkpoint to continue from. Default: the newest. */
  readonly checkpoint?: string;
  /** Train a twin sequentially beside, and compare losses, gradients and weights byte by byte. */
  readonly proveOverlap?: boolean;
  /** Draw timeline.html and timeline.json of a typical step; always on several ranks. */
  readonly timeline?: boolean;
  /** What the progress line begins with. */
  readonly label?: string;
}

/** What training came to; losses in nats per token. */
export interface TrainResult {
  readonly directory: string;
  readonly arch: string;
  readonly steps: number;
  readonly trainLoss: number;
  readonly validationLoss: number | null;
  readonly unigramEntropy: number;
  readonly tokensPerSecond: number;
  readonly parameters: ParameterCount;
  readonly schedule: string;
  /** With `proveOverlap`. */
  readonly proof: ProofReport | null;
  /** The picture of a typical step, where one was drawn. */
  readonly timeline: string | null;
  /** Medians of the last steps. */
  readonly timing: TimelineSummary;
  readonly memory: {
    readonly stateBytes: number;
    /** Peak of activations and kernels' intermediate results, worked out from program and schedule before the first step. */
    readonly plannedBytes: number;
    /** The peak of activation memory as it was. */
    readonly activationBytes: number;
    readonly peakRssBytes: number;
  };
}

/** Steps over which the rate shown is taken. */
const RATE_WINDOW = 32;
/** Steps between collections of garbage; the first takes what preparing data and compiling kernels left. */
const COLLECT_INTERVAL = 100;
const NO_TIMING: TimelineSummary = {
  stepMs: NaN,
  computeMs: 0,
  communicationMs: 0,
  exposedMs: 0,
  lateMs: 0,
  overlapShare: 1,
};

/** @throws InputError, EnvironmentError, CommError */
export const trainJob = defineJob(
  import.meta.url,
  "trainJob",
  async (context: JobContext<StepEvent>, options: TrainOptions): Promise<TrainResult> => {
    const trainer = new Trainer(context, options);
    try {
      return await trainer.run();
    } finally {
      trainer.close();
    }
  },
);

class Trainer {
  readonly #config: RunConfig;
  readonly #model: ModelConfig;
  readonly #engine = createOrtEngine();
  readonly #rank: Rank;
  readonly #data: PreparedData;
  readonly #microBatch: number;
  readonly #numMicro: number;
  readonly #isFirst: boolean;
  readonly #planner: Planner;
  readonly #recent: TimelineSummary[] = [];
  readonly #picture: StepPicture | undefined;
  #proof: OverlapProof | undefined;
  #step = 0;

  constructor(
    readonly context: JobContext<StepEvent>,
    readonly options: TrainOptions,
  ) {
    const { world } = context;
    const { config } = options;
    this.#config = config;
    this.#isFirst = world.rank === 0;
    agree(world, {
      "the version of scmoe": VERSION,
      "the configuration": JSON.stringify({ ...config, data: { ...config.data, cache: "" } }),
    });
    this.#model = modelOf(config);
    [this.#microBatch, this.#numMicro] = divideBatch(config, world.size);
    this.#data = prepareData({
      corpus: config.data.corpus,
      vocabSize: this.#model.vocab_size,
      tokenizer: config.data.tokenizer,
      cacheDirectory: config.data.cache,
      onProgress: (what, share) => {
        if (context.interrupted())
          throw new InterruptedError("Interrupted while preparing data: there is nothing to save yet");
        context.progress(`${what}: ${(share * 100).toFixed(0)} %`);
      },
    });
    // Before anything is written: too short a corpus leaves no run directory behind.
    for (const file of [this.#data.train, this.#data.validation])
      numWindows(file, config.data.sequence_length);
    this.#rank = createRank({
      config: this.#model,
      engine: this.#engine,
      world,
      epSize: config.parallel.expert_parallel,
      training: true,
      zero: config.parallel.zero,
    });
    this.#planner = new Planner(this.#rank, {
      policy: config.schedule.policy,
      program: {
        batch: this.#microBatch,
        sequence: config.data.sequence_length,
        epSize: this.#rank.ep.size,
        mode: "train",
        recompute: config.train.recompute,
        splitWeightGradients: config.train.split_weight_gradients,
        wire: config.parallel.wire,
      },
      say: (line) => context.say(line),
    });
    if (options.timeline || world.size > 1) this.#picture = new StepPicture(world);
  }

  close(): void {
    this.#engine.dispose();
  }

  async run(): Promise<TrainResult> {
    const { train } = this.#config;
    this.#start();
    const directory = this.options.directory;
    const metrics = this.#isFirst ? openMetrics(join(directory, "metrics.jsonl"), this.#step) : undefined;
    const board = this.#isFirst ? openTensorboard(directory, this.#step) : undefined;
    const routings = routingNames(this.#planner.plans.model);
    let last: StepReport | undefined;
    let validationLoss: number | null = null;
    let timing: TimelineSummary | undefined;
    let saved = this.#step;
    let stopped = false;
    while (this.#step < train.steps && !stopped) {
      const learningRate = this.#learningRate();
      const { report, stepMs } = this.#trainStep(learningRate);
      last = report;
      this.#step++;
      timing = stepTiming(report, stepMs);
      this.#remember(report, timing);
      const row = stepRow(report, timing, { learningRate, tokens: this.#tokensPerStep, routings });
      if (this.#step % COLLECT_INTERVAL === 1) collectGarbage();
      // The event loop must turn for a signal to be seen; all ranks must agree that it was.
      await new Promise((resolve) => setImmediate(resolve));
      stopped = maxScalars(this.context.world, [this.context.interrupted() ? 1 : 0], "stop?")[0] > 0;
      const isLast = this.#step === train.steps;
      const evaluates = isLast || isDue(this.#step, train.eval_interval);
      if (evaluates) validationLoss = this.#evaluate();
      if (evaluates || this.#step % train.log_interval === 0) {
        const validation: Record<string, number> = {};
        if (evaluates && validationLoss !== null) validation.validation_loss = validationLoss;
        metrics?.append({ step: this.#step, ...row.scalars, ...validation, layers: row.layers });
        board?.scalars(this.#step, { ...boardScalars(row), ...validation });
      }
      this.#progress(report, validationLoss);
      this.context.emit({
        kind: "step",
        step: this.#step,
        steps: train.steps,
        loss: report.lmLoss,
        validationLoss: evaluates ? validationLoss : null,
        learningRate,
        gradientNorm: report.gradientNorm,
        tokensPerSecond: (this.#tokensPerStep / timing.stepMs) * 1e3,
        timing,
      });
      if (isLast || stopped || isDue(this.#step, train.checkpoint_interval)) {
        this.#save();
        saved = this.#step;
      }
    }
    if (saved !== this.#step) this.#save();
    validationLoss ??= stopped ? null : this.#evaluate();
    return this.#result(last, validationLoss);
  }

  get #tokensPerStep(): number {
    return this.#config.train.batch_size * this.#config.data.sequence_length;
  }

  #start(): void {
    const { directory, resume } = this.options;
    const { world } = this.context;
    if (resume) {
      const reader = new CheckpointReader(this.options.checkpoint ?? findCheckpoint(directory));
      reader.verify({ turn: world.rank, of: world.size });
      const stored = checkpointConfig(reader);
      if (JSON.stringify(stored) !== JSON.stringify(this.#model))
        throw new InputError(`${reader.directory}: its config.json differs from the model of this run`);
      loadCheckpoint(this.#rank, reader, { optimizer: true });
      const state = reader.json<TrainerState>("trainer_state.json");
      if (!Number.isInteger(state.step) || state.step < 0)
        throw new InputError(`${reader.directory}/trainer_state.json: step is ${state.step}, wanted a count`);
      this.#step = state.step;
      reader.close();
      if (this.#isFirst) removeUnfinished(join(directory, "checkpoints"));
      this.context.say(`Resuming ${directory} after step ${this.#step}`);
    } else {
      this.#rank.parameters.initialize(this.#config.train.seed, this.#model.initializer_range);
      if (this.#isFirst) {
        startRun(directory, { ranks: world.size, config: this.#config });
      }
    }
  }

  #learningRate(): number {
    const { train } = this.#config;
    return learningRateAt(this.#step, {
      peak: train.learning_rate,
      minimum: train.min_learning_rate ?? train.learning_rate / 10,
      warmupSteps: train.warmup_steps ?? Math.ceil(train.steps / 20),
      totalSteps: train.steps,
    });
  }

  /** A proof is not part of the step's time. */
  #trainStep(learningRate: number): { report: StepReport; stepMs: number } {
    const { train, data } = this.#config;
    const { world } = this.context;
    const plan = {
      sequence: data.sequence_length,
      batch: this.#microBatch,
      ranks: world.size,
      microBatches: this.#numMicro,
      seed: train.seed,
    };
    const batches = Array.from({ length: this.#numMicro }, (_, micro) =>
      trainBatch(this.#data.train, plan, { step: this.#step, micro, rank: world.rank }),
    );
    const options: StepOptions = {
      step: this.#step,
      seed: train.seed,
      learningRate,
      optimizer: {
        beta1: train.betas[0],
        beta2: train.betas[1],
        eps: train.eps,
        weightDecay: train.weight_decay,
        clipNorm: train.clip_norm,
      },
    };
    const { plans } = this.#planner;
    if (this.options.proveOverlap) this.#proof ??= new OverlapProof(this.#rank);
    const startMs = nowMs();
    const report = trainStep(this.#rank, plans, batches, options);
    const stepMs = nowMs() - startMs;
    this.#proof?.check(report, plans, batches, options);
    return { report, stepMs };
  }

  #remember(report: StepReport, timing: TimelineSummary): void {
    this.#recent.push(timing);
    if (this.#recent.length > RATE_WINDOW) this.#recent.shift();
    this.#picture?.remember(this.#step, timing.stepMs, this.#planner.plans, report);
    this.#planner.remember(report.runs);
  }

  #evaluate(): number {
    const { train, data } = this.#config;
    return evaluate(this.#rank, this.#data.validation, {
      sequence: data.sequence_length,
      batch: this.#microBatch,
      batches: train.eval_batches,
    });
  }

  #save(): void {
    const name = `step-${String(this.#step).padStart(8, "0")}`;
    saveCheckpoint(this.#rank, join(this.options.directory, "checkpoints", name), {
      state: { step: this.#step, seed: this.#config.train.seed },
      tokenizer: readFileSync(join(this.#data.directory, "tokenizer.json"), "utf8"),
      keep: this.#config.train.keep_checkpoints,
    });
    const title = `${this.#model.arch} ${this.#planner.plans.last.schedule.policy}`;
    this.#picture?.write(this.options.directory, title);
  }

  /** Medians of recent steps: one step says little. */
  #typical(): TimelineSummary | undefined {
    return this.#recent.length === 0 ? undefined : combined(this.#recent, median);
  }

  #progress(report: StepReport, validationLoss: number | null): void {
    const typical = this.#typical();
    if (typical === undefined) return;
    this.context.progress(
      progressLine({
        label: this.options.label ?? this.#model.arch,
        step: this.#step,
        steps: this.#config.train.steps,
        loss: report.lmLoss,
        validationLoss,
        tokensPerStep: this.#tokensPerStep,
        typical,
      }),
    );
  }

  #result(last: StepReport | undefined, validationLoss: number | null): TrainResult {
    const typical = this.#typical() ?? NO_TIMING;
    const size = { batch: this.#microBatch, sequence: this.#config.data.sequence_length };
    return {
      directory: this.options.directory,
      arch: this.#model.arch,
      steps: this.#step,
      trainLoss: last?.lmLoss ?? NaN,
      validationLoss,
      unigramEntropy: this.#data.unigramEntropy,
      tokensPerSecond: (this.#tokensPerStep / typical.stepMs) * 1e3,
      parameters: countParameters(this.#model),
      schedule: this.#planner.plans.last.schedule.note,
      timeline: this.#picture === undefined ? null : join(this.options.directory, "timeline.html"),
      proof: this.#proof?.report ?? null,
      timing: typical,
      memory: {
        stateBytes: this.#rank.parameters.stateBytes,
        plannedBytes: Math.max(
          ...[this.#planner.plans.accumulate, this.#planner.plans.last].map(
            (plan) => plannedMemory(plan, size).peakBytes,
          ),
        ),
        activationBytes: this.#rank.memory.peakBytes,
        peakRssBytes: process.resourceUsage().maxRSS * 1024,
      },
    };
  }
}

/** Sequences per rank and micro-batch, and micro-batches per step. */
function divideBatch(config: RunConfig, ranks: number): [number, number] {
  const { batch_size, micro_batch_size } = config.train;
  const micro = micro_batch_size ?? batch_size / ranks;
  if (!Number.isInteger(batch_size / (ranks * micro)) || !Number.isInteger(micro))
    throw new InputError(
      `train.batch_size ${batch_size} is not a multiple of ${ranks} rank(s)${micro_batch_size ? ` × micro_batch_size ${micro_batch_size}` : ""}`,
    );
  return [micro, batch_size / (ranks * micro)];
}

function isDue(step: number, interval: number | undefined): boolean {
  return interval !== undefined && step % interval === 0;
}
