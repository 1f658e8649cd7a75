/** Runs of one small model on several layouts of ranks, as threads of this process, to compare with one rank. */
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { launch } from "../src/launch/launch.js";
import { CheckpointReader } from "../src/storage/checkpoint-reader.js";
import { type RunSource, openRun } from "../src/train/open-run.js";
import { type TrainResult, trainJob } from "../src/train/train-job.js";
import { MINI, temporaryDirectory } from "./helpers.js";

export const STEPS = 20;
/** Of losses over all steps; of each tensor's gradient in the first, by ‖a − b‖ / ‖b‖. */
const LOSS_TOLERANCE = 1e-5;
const GRADIENT_TOLERANCE = 1e-4;
/** Beside the whole gradient, a true zero: a key bias moves all scores of a query alike. */
const NOISE = 1e-6;

export interface Layout {
  readonly ranks: number;
  readonly ep?: number;
  readonly zero?: boolean;
  readonly wire?: "bf16";
}

export const LAYOUTS: Readonly<Record<string, Layout>> = {
  "EP 2": { ranks: 2 },
  "EP 4": { ranks: 4 },
  "DP 2 × EP 2": { ranks: 4, ep: 2 },
};

export interface Run {
  readonly directory: string;
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly result: TrainResult;
}

const home = temporaryDirectory();
let count = 0;

const COMMON = [
  ...MINI.filter((word) => word !== "--set"),
  `train.steps=${STEPS}`,
  "train.checkpoint_interval=1",
  `train.keep_checkpoints=${STEPS}`,
  `data.cache=${join(home, "cache")}`,
];

/** @param from continue this run after `step` on another layout */
export async function train(
  sets: readonly string[],
  layout: Layout,
  from?: { readonly run: Run; readonly step: number },
): Promise<Run> {
  const directory = join(home, `run-${count++}`);
  const ofLayout = [
    ...(layout.ep === undefined ? [] : [`parallel.expert_parallel=${layout.ep}`]),
    ...(layout.zero ? ["parallel.zero=true"] : []),
    ...(layout.wire === undefined ? [] : [`parallel.wire=${layout.wire}`]),
    ...sets,
  ];
  if (from !== undefined) cpSync(from.run.directory, directory, { recursive: true });
  const source: RunSource =
    from === undefined
      ? { directory, sets: [...COMMON, ...ofLayout] }
      : { resume: join(directory, "checkpoints", stepName(from.step)), sets: ofLayout };
  const run = openRun(source);
  const { result } = await launch(trainJob, run, { ranks: layout.ranks });
  const rows = readFileSync(join(directory, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { loss: number; grad_norm: number });
  expect(rows.length).toBe(run.config.train.steps);
  return { directory, result, losses: rows.map((r) => r.loss), norms: rows.map((r) => r.grad_norm) };
}

export function stepName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

export function relative(found: readonly number[], wanted: readonly number[]): number {
  return Math.max(...wanted.map((w, i) => Math.abs(found[i] - w) / Math.abs(w)));
}

export function expectSameLosses(run: Run, one: Run, tolerance = LOSS_TOLERANCE): void {
  expect(relative(run.losses, one.losses)).toBeLessThan(tolerance);
}

/** After the first step the first moment is a tenth of the clipped gradient. */
function firstGradients(run: Run): Map<string, Float32Array> {
  const reader = new CheckpointReader(join(run.directory, "checkpoints", stepName(1)));
  const gradients = new Map<string, Float32Array>();
  const trained = reader.names("model").filter((name) => !name.endsWith(".selection_bias"));
  for (const name of trained) {
    const size = reader.dims("model", name).reduce((a, b) => a * b, 1);
    const data = new Float32Array(size);
    reader.readPiecesInto("optimizer", `${name}.exp_avg`, data, 0);
    gradients.set(name, data);
  }
  reader.close();
  return gradients;
}

const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));

/** @returns the largest error of a tensor's gradient, tensors of rounding noise aside */
export function expectSameGradients(run: Run, one: Run): number {
  const [found, wanted] = [firstGradients(run), firstGradients(one)];
  const whole = Math.sqrt([...wanted.values()].reduce((sum, g) => sum + norm(g) ** 2, 0));
  let worst = 0;
  let compared = 0;
  for (const [name, g] of wanted) {
    if (norm(g) < NOISE * whole) continue;
    compared++;
    const other = found.get(name);
    const error = norm(g.map((x, i) => x - (other?.[i] ?? NaN))) / norm(g);
    expect(error, name).toBeLessThan(GRADIENT_TOLERANCE);
    worst = Math.max(worst, error);
  }
  expect(compared).toBeGreaterThan(10);
  return worst;
}
