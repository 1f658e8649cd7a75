/** The training loop of one rank: steps, evaluation, checkpoints, metrics. */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { agree, maxScalars } from "../comm/collectives.js";
import { nowMs } from "../core/clock.js";
import { EnvironmentError, InputError } from "../core/errors.js";
import { VERSION } from "../core/version.js";
import { trainBatch } from "../data/batches.js";
import { type PreparedData, prepareData } from "../data/prepare.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import type { ModelConfig } from "../model/config.js";
import { type ParameterCount, countParameters } from "../model/parameters.js";
import type { JobContext } from "../run/job.js";
import { type Rank, createRank } from "../run/rank.js";
import { median } from "../simulate/costs.js";
import { summarize } from "../simulate/summary.js";
import type { TimelineSummary } from "../simulate/timeline.js";
import { CheckpointReader, findCheckpoint } from "../storage/checkpoint-dir.js";
import { replaceFile } from "../storage/files.js";
import { openMetrics, openTensorboard } from "../storage/metrics.js";
import { type TrainerState, checkpointConfig, loadCheckpoint, saveCheckpoint } from "./checkpoint.js";
import { type RunConfig, modelOf } from "./config.js";
import { evaluate } from "./evaluate.js";
import { learningRateAt } from "./optimizer.js";
import { Planner } from "./planner.js";
import { type MicroBatch, type StepPlans, type StepReport, forwardBackward, trainStep } from "./step.js";

export interface TrainOptions {
  readonly config: RunConfig;
  readonly directory: string;
  readonly resume: boolean;
  /** Run every step's forward and backward pass sequentially, too, and compare losses and gradients byte by byte. */
  readonly proveOverlap?: boolean;
  /** What the progress line begins with. */
  readonly label?: string;
}

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
  /** With `proveOverlap`: bytes compared over all steps on this rank, and how many differed. */
  readonly proof: { readonly steps: number; readonly bytes: number; readonly differing: number } | null;
  readonly timing: TimelineSummary;
  readonly memory: {
    readonly stateBytes: number;
    readonly activationBytes: number;
    readonly peakRssBytes: number;
  };
}

/** Steps over which the rate shown is taken. */
const RATE_WINDOW = 32;

/** @throws InputError, EnvironmentError, CommError */
export async function trainJob(context: JobContext, options: TrainOptions): Promise<TrainResult> {
  const trainer = new Trainer(context, options);
  try {
    return await trainer.run();
  } finally {
    trainer.close();
  }
}

class Trainer {
  readonly #config: RunConfig;
  readonly #model: ModelConfig;
  readonly #engine = createOrtEngine();
  readonly #rank: Rank;
  readonly #data: PreparedData;
  readonly #microBatch: number;
  readonly #numMicro: number;
  readonly #isFirst: boolean;
  readonly #stepMs: number[] = [];
  readonly #planner: Planner;
  #sequential: StepPlans | undefined;
  #proof = { steps: 0, bytes: 0, differing: 0 };
  #step = 0;

  constructor(
    readonly context: JobContext,
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
      onProgress: (what, share) => context.progress(`${what}: ${(share * 100).toFixed(0)} %`),
    });
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
  }

  close(): void {
    this.#engine.dispose();
  }

  async run(): Promise<TrainResult> {
    const { train } = this.#config;
    this.#start();
    const directory = this.options.directory;
    const metrics = this.#isFirst ? openMetrics(join(directory, "metrics.jsonl"), this.#step) : undefined;
    const board = this.#isFirst ? openTensorboard(directory) : undefined;
    let last: StepReport | undefined;
    let validationLoss: number | null = null;
    let timing: TimelineSummary | undefined;
    let saved = this.#step;
    let stopped = false;
    while (this.#step < train.steps && !stopped) {
      const startMs = nowMs();
      const learningRate = this.#learningRate();
      last = this.#trainStep(learningRate);
      const stepMs = nowMs() - startMs;
      this.#step++;
      timing = this.#timing(last, stepMs);
      this.#remember(last, stepMs);
      let row: Record<string, number> = stepRow(last, timing, {
        learningRate,
        tokens: this.#tokensPerStep,
        stepMs,
      });
      // The event loop must turn for a signal to be seen; all ranks must agree that it was.
      await new Promise((resolve) => setImmediate(resolve));
      stopped = maxScalars(this.context.world, [this.context.interrupted() ? 1 : 0], "stop?")[0] > 0;
      const isLast = this.#step === train.steps;
      if (isLast || isDue(this.#step, train.eval_interval)) {
        validationLoss = this.#evaluate();
        row = { ...row, validation_loss: validationLoss };
      }
      if (this.#step % train.log_interval === 0 || isLast || "validation_loss" in row) {
        metrics?.append({ step: this.#step, ...row });
        board?.scalars(this.#step, row);
      }
      this.#progress(last, timing, validationLoss);
      if (isLast || stopped || isDue(this.#step, train.checkpoint_interval)) {
        this.#save();
        saved = this.#step;
      }
    }
    if (saved !== this.#step) this.#save();
    validationLoss ??= stopped ? null : this.#evaluate();
    return this.#result(last, validationLoss, timing);
  }

  get #tokensPerStep(): number {
    return this.#config.train.batch_size * this.#config.data.sequence_length;
  }

  #start(): void {
    const { directory, resume } = this.options;
    const { world } = this.context;
    if (resume) {
      const reader = new CheckpointReader(findCheckpoint(directory));
      reader.verify();
      const stored = checkpointConfig(reader);
      if (JSON.stringify(stored) !== JSON.stringify(this.#model))
        throw new InputError(`${reader.directory}: its config.json differs from the model of this run`);
      loadCheckpoint(this.#rank, reader, { optimizer: true });
      const state = reader.json<TrainerState>("trainer_state.json");
      this.#step = state.step;
      reader.close();
      this.context.say(`Resuming ${directory} after step ${this.#step}`);
    } else {
      this.#rank.parameters.initialize(this.#config.train.seed, this.#model.initializer_range);
      if (this.#isFirst) {
        mkdirSync(join(directory, "checkpoints"), { recursive: true });
        const facts = {
          scmoe: VERSION,
          node: process.version,
          ranks: world.size,
          started: new Date().toISOString(),
        };
        replaceFile(
          join(directory, "run.json"),
          `${JSON.stringify({ ...facts, config: this.#config }, undefined, 2)}\n`,
        );
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

  #trainStep(learningRate: number): StepReport {
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
    if (this.options.proveOverlap) this.#prove(batches);
    return trainStep(this.#rank, this.#planner.plans, batches, {
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
    });
  }

  /** The update is a function of gradients and weights, so equal gradients mean equal weights. */
  #prove(batches: readonly MicroBatch[]): void {
    this.#sequential ??= this.#planner.planWith("sequential");
    const at = { step: this.#step, seed: this.#config.train.seed };
    const outcome = (plans: StepPlans): { bytes: Uint8Array[]; losses: string } => {
      const { report } = forwardBackward(this.#rank, plans, batches, at);
      const bytes = this.#rank.parameters.buckets.map(({ gradients }) =>
        new Uint8Array(gradients.buffer, gradients.byteOffset, gradients.byteLength).slice(),
      );
      return { bytes, losses: JSON.stringify([report.lmLoss, report.balanceLoss, report.zLoss]) };
    };
    const [sequential, overlapped] = [outcome(this.#sequential), outcome(this.#planner.plans)];
    let differing = sequential.losses === overlapped.losses ? 0 : 8;
    let compared = 24;
    sequential.bytes.forEach((bytes, b) => {
      compared += bytes.length;
      if (Buffer.compare(bytes, overlapped.bytes[b]) !== 0)
        for (let i = 0; i < bytes.length; i++) if (bytes[i] !== overlapped.bytes[b][i]) differing++;
    });
    this.#proof = {
      steps: this.#proof.steps + 1,
      bytes: this.#proof.bytes + compared,
      differing: this.#proof.differing + differing,
    };
    if (differing > 0)
      throw new EnvironmentError(
        `Step ${this.#step + 1}: ${differing} of ${compared} bytes of losses and gradients differ between sequential and ${this.#config.schedule.policy}; this is a bug, please report it`,
      );
  }

  #remember(report: StepReport, stepMs: number): void {
    this.#stepMs.push(stepMs);
    if (this.#stepMs.length > RATE_WINDOW) this.#stepMs.shift();
    this.#planner.remember(report.runs);
  }

  #timing(report: StepReport, stepMs: number): TimelineSummary {
    const all = report.runs.map((run) => summarize(run.events, run.exposed, 1, stepMs));
    const sum = (of: (s: TimelineSummary) => number): number => all.reduce((total, s) => total + of(s), 0);
    const [communicationMs, exposedMs] = [sum((s) => s.communicationMs), sum((s) => s.exposedMs)];
    return {
      stepMs,
      computeMs: sum((s) => s.computeMs),
      communicationMs,
      exposedMs,
      overlapShare: communicationMs === 0 ? 1 : Math.max(0, 1 - exposedMs / communicationMs),
    };
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
  }

  #progress(report: StepReport, timing: TimelineSummary, validation: number | null): void {
    const { steps } = this.#config.train;
    const typical = median(this.#stepMs);
    const parts = [
      `${this.options.label ?? this.#model.arch} step ${this.#step}/${steps}`,
      `loss ${report.lmLoss.toFixed(3)}`,
      `${Math.round((this.#tokensPerStep / typical) * 1e3)} tokens/s`,
      `ETA ${formatDuration((steps - this.#step) * typical)}`,
    ];
    if (validation !== null) parts.splice(2, 0, `validation ${validation.toFixed(3)}`);
    if (timing.communicationMs > 0)
      parts.push(`hidden ${(timing.overlapShare * 100).toFixed(0)} % of communication`);
    this.context.progress(parts.join(" · "));
  }

  #result(
    last: StepReport | undefined,
    validationLoss: number | null,
    timing: TimelineSummary | undefined,
  ): TrainResult {
    const typical = this.#stepMs.length === 0 ? NaN : median(this.#stepMs);
    return {
      directory: this.options.directory,
      arch: this.#model.arch,
      steps: this.#step,
      trainLoss: last?.lmLoss ?? NaN,
      validationLoss,
      unigramEntropy: this.#data.unigramEntropy,
      tokensPerSecond: (this.#tokensPerStep / typical) * 1e3,
      parameters: countParameters(this.#model),
      schedule: this.#planner.plans.last.schedule.note,
      proof: this.options.proveOverlap ? this.#proof : null,
      timing: timing ?? { stepMs: 0, computeMs: 0, communicationMs: 0, exposedMs: 0, overlapShare: 1 },
      memory: {
        stateBytes: this.#rank.parameters.stateBytes,
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

function stepRow(
  report: StepReport,
  timing: TimelineSummary,
  at: { learningRate: number; tokens: number; stepMs: number },
): Record<string, number> {
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  const row: Record<string, number> = {
    loss: report.loss,
    lm_loss: report.lmLoss,
    grad_norm: report.gradientNorm,
    learning_rate: at.learningRate,
    tokens_per_second: (at.tokens / at.stepMs) * 1e3,
    step_ms: timing.stepMs,
    compute_ms: timing.computeMs,
    communication_ms: timing.communicationMs,
    exposed_ms: timing.exposedMs,
    overlap_share: timing.overlapShare,
  };
  if (report.loads.length > 0) {
    row.balance_loss = report.balanceLoss;
    row.z_loss = report.zLoss;
    row.dropped_share = mean(report.loads.map((l) => l.droppedShare));
    row.load_entropy = mean(report.loads.map((l) => l.entropy));
    row.load_imbalance = mean(report.loads.map((l) => l.imbalance));
  }
  return row;
}

export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1e3);
  if (!Number.isFinite(seconds)) return "?";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

/** Whether a directory already holds a run. */
export function holdsRun(directory: string): boolean {
  return existsSync(join(directory, "run.json"));
}
