/** A whole training step on one rank: how much of it is spent in kernels, and how much on everything around them? */
import { singleCommunicator } from "../comm/single.js";
import { nowMs } from "../core/clock.js";
import type { Engine } from "../engine/engine.js";
import { type ModelInput, resolveModel } from "../model/config.js";
import { countParameters } from "../model/parameters.js";
import { sequential } from "../schedule/sequential.js";
import { median } from "../core/statistics.js";
import { type OperatorClass } from "../program/work.js";
import { trainStep } from "../train/step.js";
import { openStep } from "../train/step-sessions.js";
import { createTrainee } from "../train/trainee.js";
import { kernelClock } from "./kernel-clock.js";
import { randomBatch } from "./random-batch.js";

export interface StepOptions {
  readonly model: ModelInput;
  readonly batch: number;
  readonly sequence: number;
  readonly rounds: number;
}

export interface StepResult {
  readonly arch: string;
  readonly parameters: number;
  readonly tokens: number;
  /** Medians over rounds. */
  readonly stepMs: number;
  readonly kernelMs: number;
  readonly outsideMs: number;
  readonly outsideShare: number;
  readonly tokensPerSecond: number;
  /** Median milliseconds per kind of operator and step, the optimiser and what no operator accounts for. */
  readonly parts: Readonly<Record<string, number>>;
}

const WARM_UP_ROUNDS = 2;
/** Operators whose time is spent in kernels; their own overhead is in "around kernels". */
const KERNELS: readonly OperatorClass[] = ["attention", "mlp", "expert", "shared", "gate", "head"];

export function benchStep(plainEngine: Engine, options: StepOptions): StepResult {
  const clock = kernelClock(plainEngine);
  const config = resolveModel(options.model);
  const rank = createTrainee({ config, engine: clock.engine, world: singleCommunicator() });
  rank.weights.initialize(1, config.initializer_range);
  const { batch, sequence } = options;
  const sessions = openStep(rank, { batch, sequence, epSize: 1 }, sequential);
  const optimizer = { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip_norm: 1 } as const;
  const rounds: { stepMs: number; kernelMs: number; parts: Record<string, number> }[] = [];
  for (let step = 0; step < WARM_UP_ROUNDS + options.rounds; step++) {
    const data = randomBatch(config.vocab_size, batch * sequence, 3 + step);
    clock.take();
    const start = nowMs();
    const report = trainStep(rank, sessions, [data], { step, seed: 1, learningRate: 1e-4, optimizer });
    const stepMs = nowMs() - start;
    const kernelMs = clock.take();
    if (step < WARM_UP_ROUNDS) continue;
    const parts: Record<string, number> = { "around kernels": -kernelMs };
    let inOperators = 0;
    for (const { class: of, startMs, endMs } of report.runs.flatMap((run) => run.events)) {
      const name = KERNELS.includes(of) ? "around kernels" : of;
      parts[name] = (parts[name] ?? 0) + endMs - startMs;
      inOperators += endMs - startMs;
    }
    parts["optimiser and bookkeeping"] = stepMs - inOperators;
    rounds.push({ stepMs, kernelMs, parts });
  }
  const [stepMs, kernelMs] = [median(rounds.map((r) => r.stepMs)), median(rounds.map((r) => r.kernelMs))];
  const outsideShare = median(rounds.map((r) => 1 - r.kernelMs / r.stepMs));
  const names = Object.keys(rounds[0].parts);
  return {
    arch: config.arch,
    parameters: countParameters(config).total,
    tokens: batch * sequence,
    stepMs,
    kernelMs,
    outsideMs: stepMs * outsideShare,
    outsideShare,
    tokensPerSecond: (batch * sequence * 1e3) / stepMs,
    parts: Object.fromEntries(names.map((name) => [name, median(rounds.map((r) => r.parts[name] ?? 0))])),
  };
}
