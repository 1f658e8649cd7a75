/**
 * Compares a training run with a fixture directory made by another implementation (conventions: "Fixtures"):
 * losses of every step, clipped gradients of the first, weights after the last.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import type { Engine } from "../engine/engine.js";
import type { Tensor } from "../core/tensor.js";
import { resolveModel } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import { buildProgram } from "../model/wiring.js";
import { actionTable } from "../run/actions/index.js";
import { execute } from "../run/executor.js";
import { type Rank, createRank } from "../run/rank.js";
import { sequential } from "../schedule/sequential.js";
import { SafetensorsReader } from "../storage/safetensors.js";
import { inferConfig } from "./infer-config.js";
import { adamWStep, clipFactor, gradientNorm } from "./optimizer.js";
import { type MicroBatch, forwardBackward, planStep } from "./step.js";

export const TOLERANCE = { loss: 1e-4, gradient: 1e-3, weight: 1e-3, logits: 1e-4 } as const;

interface FixtureStep {
  readonly lm_loss: number;
  readonly balance_loss: number;
  readonly loss: number;
  readonly grad_norm: number;
}

interface Fixture {
  readonly config: Record<string, unknown>;
  readonly learning_rate: number;
  readonly weight_decay: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly clip_norm: number | null;
  readonly balance_coefficient: number;
  readonly steps: readonly FixtureStep[];
}

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

export interface VerifyReport {
  readonly directory: string;
  readonly arch: string;
  readonly passed: boolean;
  readonly tolerance: typeof TOLERANCE;
  readonly logitsError: number | null;
  readonly steps: readonly {
    step: number;
    loss: number;
    lmError: number;
    balanceError: number;
    lossError: number;
    normError: number;
  }[];
  readonly gradients: readonly TensorError[];
  readonly weights: readonly TensorError[];
}

/** @throws InputError when files are missing or do not fit each other */
export function verifyFixture(directory: string, engine: Engine): VerifyReport {
  const fixture = readJson<Fixture>(join(directory, "run.json"));
  const initial = SafetensorsReader.open(join(directory, "initial.safetensors"));
  const shapes = new Map(initial.names.map((name) => [name, initial.info(name).dims]));
  const config = resolveModel(
    { ...inferConfig(fixture.config, shapes), router_aux_loss_coef: fixture.balance_coefficient ?? 0.01 },
    join(directory, "run.json"),
  );
  const rank = createRank({ config, engine, world: singleCommunicator(), training: true });
  loadWeights(rank, initial);
  const tokensFile = SafetensorsReader.open(join(directory, "tokens.safetensors"));
  const [numSteps, batch, width] = tokensFile.info("tokens").dims;
  const tokens = tokensFile.readI32("tokens");
  const sequence = width - 1;
  const batchAt = (step: number): MicroBatch => microBatch(tokens, { step, batch, sequence });

  const logitsError = compareLogits(rank, join(directory, "logits0.safetensors"), {
    batch,
    sequence,
    first: batchAt(0),
  });
  const plans = planStep(rank, { batch, sequence, epSize: 1, mode: "train" }, sequential);
  const steps: VerifyReport["steps"][number][] = [];
  let gradients: TensorError[] = [];
  for (let step = 0; step < Math.min(numSteps, fixture.steps.length); step++) {
    const wanted = fixture.steps[step];
    const { report } = forwardBackward(rank, plans, [batchAt(step)], { step, seed: 0 });
    const norm = gradientNorm(rank);
    const factor = clipFactor(norm, fixture.clip_norm ?? null);
    if (step === 0) gradients = compareGradients(rank, join(directory, "gradients0.safetensors"), factor);
    const [beta1, beta2] = fixture.betas;
    adamWStep(
      rank,
      {
        beta1,
        beta2,
        eps: fixture.eps,
        weightDecay: fixture.weight_decay,
        clipNorm: fixture.clip_norm ?? null,
      },
      { step: step + 1, learningRate: fixture.learning_rate, gradScale: factor },
    );
    steps.push({
      step,
      loss: report.loss,
      lmError: relative(report.lmLoss, wanted.lm_loss),
      balanceError: relative(report.balanceLoss, wanted.balance_loss),
      lossError: relative(report.loss, wanted.loss),
      normError: relative(norm, wanted.grad_norm),
    });
  }
  const noise = new Set(gradients.filter((g) => g.undetermined).map((g) => g.name));
  const weights = compareWeights(rank, join(directory, "final.safetensors"), noise);
  const passed =
    (logitsError ?? 0) <= TOLERANCE.logits &&
    steps.every((s) => s.lmError <= TOLERANCE.loss && s.lossError <= TOLERANCE.loss) &&
    gradients.every((g) => g.undetermined || g.error <= TOLERANCE.gradient) &&
    weights.every((w) => w.undetermined || w.error <= TOLERANCE.weight);
  return {
    directory,
    arch: config.arch,
    passed,
    tolerance: TOLERANCE,
    logitsError,
    steps,
    gradients,
    weights,
  };
}

function readJson<T>(path: string): T {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new InputError(
      `Cannot read ${path}; a fixture directory holds run.json and five .safetensors files`,
    );
  }
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new InputError(`${path} is not JSON: ${(error as Error).message}`);
  }
}

function microBatch(tokens: Int32Array, at: { step: number; batch: number; sequence: number }): MicroBatch {
  const { step, batch, sequence: S } = at;
  const inputs = new Int32Array(batch * S);
  const labels = new Int32Array(batch * S);
  for (let b = 0; b < batch; b++) {
    const from = (step * batch + b) * (S + 1);
    inputs.set(tokens.subarray(from, from + S), b * S);
    labels.set(tokens.subarray(from + 1, from + S + 1), b * S);
  }
  return { tokens: inputs, labels, firstToken: 0 };
}

/** Copies weights from a file into a rank's store. @throws InputError naming what is missing or of another shape */
function loadWeights(rank: Rank, file: SafetensorsReader): void {
  const wanted = listParameters(rank.config);
  for (const { name, dims } of wanted) {
    const found = file.info(name).dims;
    if (found.join() !== dims.join())
      throw new InputError(
        `${file.path}: tensor "${name}" is [${found.join(", ")}], the config wants [${dims.join(", ")}]`,
      );
    if (rank.parameters.has(name)) file.readInto(name, rank.parameters.weight(name));
  }
  const names = new Set(wanted.map((p) => p.name));
  const extra = file.names.find((name) => !names.has(name));
  if (extra !== undefined)
    throw new InputError(`${file.path}: tensor "${extra}" has no place in arch ${rank.config.arch}`);
}

function compareLogits(
  rank: Rank,
  path: string,
  at: { batch: number; sequence: number; first: MicroBatch },
): number | null {
  const file = openIfPresent(path);
  if (file === undefined) return null;
  const model = buildProgram(rank.config, {
    batch: at.batch,
    sequence: at.sequence,
    epSize: 1,
    mode: "logits",
  });
  const plan = {
    program: model.program,
    schedule: sequential(model.program),
    actions: actionTable(at.sequence),
    keep: new Set([model.output]),
  };
  const feeds = new Map<number, unknown>([
    [model.tokens, { data: at.first.tokens, dims: [at.first.tokens.length] }],
  ]);
  const run = execute(plan, { ...rank, scales: { balance: 0, z: 0 } }, feeds);
  const error = distance(run.read<Tensor<Float32Array>>(model.output).data, file.readF32(file.names[0]));
  run.release();
  return error;
}

function openIfPresent(path: string): SafetensorsReader | undefined {
  try {
    return SafetensorsReader.open(path);
  } catch {
    return undefined;
  }
}

function compareGradients(rank: Rank, path: string, factor: number): TensorError[] {
  const file = SafetensorsReader.open(path);
  const wanted = new Map(file.names.map((name) => [name, file.readF32(name)]));
  const whole = Math.hypot(...[...wanted.values()].map(norm2));
  return [...wanted].map(([name, values]) => ({
    name,
    error: distance(
      rank.parameters.gradient(name).map((x) => x * factor),
      values,
    ),
    undetermined: norm2(values) < NOISE * whole,
  }));
}

function compareWeights(rank: Rank, path: string, undetermined: ReadonlySet<string>): TensorError[] {
  const file = SafetensorsReader.open(path);
  return file.names.map((name) => ({
    name,
    error: distance(rank.parameters.weight(name), file.readF32(name)),
    undetermined: undetermined.has(name),
  }));
}

function norm2(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
}

function relative(a: number, b: number): number {
  return b === 0 ? Math.abs(a) : Math.abs(a - b) / Math.abs(b);
}

/** ‖a − b‖ / ‖b‖; when b is zero, ‖a‖. */
function distance(a: Float32Array, b: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    norm += b[i] ** 2;
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
}
