/**
 * Compares a training run with a fixture directory made by another implementation (method 9.8):
 * logits, losses of every step, clipped gradients of the first, weights after the last.
 */
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import type { Tensor } from "../core/tensor.js";
import type { Engine } from "../engine/engine.js";
import { buildProgram } from "../model/language-model.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { type Fixture, openFixture } from "./fixture.js";
import { clipFactor, gradientNorm } from "./optimizer.js";
import type { MicroBatch } from "./micro-batch.js";
import { applyUpdate, forwardBackward } from "./step.js";
import { openStep } from "./step-sessions.js";
import { type Trainee, createTrainee } from "./trainee.js";
import { distance, norm2, relative } from "./distance.js";

/** Relative; norms and gradients as ‖a − b‖/‖b‖. */
export const TOLERANCE = { loss: 1e-4, gradient: 1e-3, weight: 1e-3, logits: 1e-4 } as const;

/** How far a tensor is from the other implementation. */
export interface TensorError {
  readonly name: string;
  /** ‖a − b‖ / ‖b‖ */
  readonly error: number;
  /**
   * The true gradient is zero (a key bias shifts all scores of a query alike), so both sides hold rounding noise, which
   * AdamW turns into steps of full size. Not judged.
   */
  readonly undetermined: boolean;
}

/** A gradient this small beside the whole model's is rounding noise. */
const NOISE = 1e-6;
/** The same for a tensor whose gradient is known to be zero: noise grows with the number of terms that cancel. */
const CANCELLED = 1e-4;

/** How far a training step is from the other implementation; errors are relative. */
export interface StepError {
  readonly step: number;
  readonly loss: number;
  readonly lmError: number;
  readonly balanceError: number;
  readonly lossError: number;
  readonly normError: number;
}

/** What a comparison with another implementation's training run found. */
export interface FixtureReport {
  readonly kind: "training run";
  readonly directory: string;
  readonly arch: string;
  readonly passed: boolean;
  /** What did not agree, one line each. */
  readonly failures: readonly string[];
  readonly tolerance: typeof TOLERANCE;
  readonly logitsError: number | null;
  readonly steps: readonly StepError[];
  readonly gradients: readonly TensorError[];
  readonly weights: readonly TensorError[];
}

/** @throws InputError when files are missing or broken, or do not fit each other */
export function verifyFixture(directory: string, engine: Engine): FixtureReport {
  const fixture = openFixture(directory);
  try {
    return compare(fixture, engine);
  } finally {
    fixture.close();
  }
}

function compare(fixture: Fixture, engine: Engine): FixtureReport {
  const { config, run, batch, sequence } = fixture;
  const rank = createTrainee({ config, engine, world: singleCommunicator() });
  for (const name of fixture.initial.names) fixture.initial.readInto(name, rank.weights.weight(name));
  const logitsError = compareLogits(rank, fixture);
  const sessions = openStep(rank, { batch, sequence, epSize: 1 }, sequential);
  let gradients: TensorError[] = [];
  const steps = run.steps.map((wanted, step): StepError => {
    const report = forwardBackward(rank, sessions, [microBatch(fixture, step)], { step, seed: 0 });
    const norm = gradientNorm(rank);
    const factor = clipFactor(norm, run.clip_norm);
    if (step === 0) gradients = compareGradients(rank, fixture, factor);
    const { learning_rate: learningRate } = run;
    applyUpdate(sessions, { step: step + 1, learningRate, gradScale: factor, options: run });
    return {
      step,
      loss: report.loss,
      lmError: relative(report.lmLoss, wanted.lm_loss),
      balanceError: relative(report.balanceLoss, wanted.balance_loss),
      lossError: relative(report.loss, wanted.loss),
      normError: relative(norm, wanted.grad_norm),
    };
  });
  const noise = new Set(gradients.filter((g) => g.undetermined).map((g) => g.name));
  const weights = fixture.final.names.map((name) => ({
    name,
    error: distance(rank.weights.weight(name), fixture.final.readF32(name)),
    undetermined: noise.has(name),
  }));
  const failures = judge({ logitsError, steps, gradients, weights });
  return {
    kind: "training run",
    directory: fixture.directory,
    arch: config.arch,
    passed: failures.length === 0,
    failures,
    tolerance: TOLERANCE,
    logitsError,
    steps,
    gradients,
    weights,
  };
}

/**
 * Balance losses and norms are judged on the first step only: later, a token whose two best experts are equal but for
 * rounding may be routed either way, which moves them more than the losses.
 */
function judge(found: Pick<FixtureReport, "logitsError" | "steps" | "gradients" | "weights">): string[] {
  const failures: string[] = [];
  const check = (what: string, error: number, tolerance: number): void => {
    // Not "error > tolerance": a NaN must fail.
    if (!(error <= tolerance))
      failures.push(`${what}: error ${error.toExponential(1)}, tolerance ${tolerance}`);
  };
  if (found.logitsError !== null) check("logits", found.logitsError, TOLERANCE.logits);
  for (const { step, ...errors } of found.steps) {
    check(`LM loss of step ${step}`, errors.lmError, TOLERANCE.loss);
    check(`loss of step ${step}`, errors.lossError, TOLERANCE.loss);
    if (step > 0) continue;
    check("balance loss of step 0", errors.balanceError, TOLERANCE.loss);
    check("gradient norm of step 0", errors.normError, TOLERANCE.gradient);
  }
  for (const { name, error, undetermined } of found.gradients)
    if (!undetermined) check(`gradient of ${name}`, error, TOLERANCE.gradient);
  for (const { name, error, undetermined } of found.weights)
    if (!undetermined) check(`final ${name}`, error, TOLERANCE.weight);
  return failures;
}

function microBatch({ tokens, batch, sequence: S }: Fixture, step: number): MicroBatch {
  const inputs = new Int32Array(batch * S);
  const labels = new Int32Array(batch * S);
  for (let b = 0; b < batch; b++) {
    const from = (step * batch + b) * (S + 1);
    inputs.set(tokens.subarray(from, from + S), b * S);
    labels.set(tokens.subarray(from + 1, from + S + 1), b * S);
  }
  return { tokens: inputs, labels, firstToken: 0 };
}

function compareLogits(rank: Trainee, fixture: Fixture): number | null {
  if (fixture.logits === undefined) return null;
  const { batch, sequence } = fixture;
  const model = buildProgram(rank.config, { batch, sequence, epSize: 1, head: "logits" });
  const session = new Session(rank, model.program, { keep: [model.output] });
  const { tokens } = microBatch(fixture, 0);
  const feeds = new Map<number, unknown>([[model.tokens, { data: tokens, dims: [tokens.length] }]]);
  const run = session.run(sequential(model.program), feeds);
  const error = distance(run.read<Tensor<Float32Array>>(model.output).data, fixture.logits.readF32("logits"));
  run.release();
  return error;
}

/** @throws InputError when the file leaves out a tensor whose gradient is not zero */
function compareGradients(
  rank: Trainee,
  { gradients: file, initial }: Fixture,
  factor: number,
): TensorError[] {
  const wanted = new Map(file.names.map((name) => [name, file.readF32(name)]));
  const whole = Math.hypot(...[...wanted.values()].map(norm2));
  return initial.names.map((name) => {
    const found = rank.gradients.gradient(name).map((x) => x * factor);
    const values = wanted.get(name) ?? new Float32Array(found.length);
    const { hasNoGradient } = rank.weights.find(name).tensor.info;
    const noise = (hasNoGradient ? CANCELLED : NOISE) * whole;
    if (!wanted.has(name) && norm2(found) > noise)
      throw new InputError(`${file.path} has no gradient of "${name}", which is not zero`);
    return {
      name,
      error: distance(found, values),
      undetermined: norm2(values) < noise && norm2(found) < noise,
    };
  });
}
