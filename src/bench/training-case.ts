/** What a comparison runs of training: a forward pass, a micro-batch forward and backward, or a whole optimiser step. */
import type { MoeShape } from "../program/kinds.js";
import { reductionBuckets } from "../model/gradient-buckets.js";
import { type ModelProgram, buildProgram } from "../model/language-model.js";
import { type TrainingProgram, buildTrainingProgram } from "../model/training-program.js";
import type { Program } from "../program/program.js";
import { wholeStep } from "../program/reduction.js";
import type { Schedule } from "../program/schedule.js";
import type { RoutingValue } from "../run/actions/gate.js";
import type { RunResult } from "../run/execution.js";
import { Session } from "../run/session.js";
import type { Policy } from "../schedule/policy.js";
import { feedBatch } from "../train/micro-batch.js";
import { type Update, clipFactor, gradientNorm } from "../train/optimizer.js";
import { keptValues, stepModel } from "../train/step-sessions.js";
import type { Trainee } from "../train/trainee.js";
import { randomBatch } from "./random-batch.js";

export const TRAINING_MODES = ["forward", "train", "step"] as const;
export type TrainingMode = (typeof TRAINING_MODES)[number];

export interface TrainingShape {
  /** Sequences per rank and micro-batch, and tokens of each. */
  readonly batch: number;
  readonly sequence: number;
  /** Of a whole step, all of them one program. */
  readonly microBatches: number;
  readonly splitWeightGradients: boolean;
  readonly wire: "f32" | "bf16";
  readonly wireGradients: "f32" | "bf16";
}

export interface TrainingCase {
  readonly session: Session;
  /** Before ranks meet to begin at one time. */
  readonly prepare: () => void;
  readonly run: (schedule: Schedule) => RunResult;
  readonly release: () => void;
  /** How many rows each expert has just been sent by this rank, by routing. */
  readonly loads: (run: RunResult) => { readonly shape: MoeShape; readonly rows: number[] }[];
}

/** Moves moments like any other update, and weights not at all: every round computes the same. */
const UPDATE: Omit<Update, "gradScale"> = {
  step: 1,
  learningRate: 0,
  options: { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip_norm: 1 },
};

/** A program of micro-batches: their values, and those that all of them share or that are the step's. */
interface Built {
  readonly model: ModelProgram & Partial<TrainingProgram>;
  readonly program: Program;
  readonly values: readonly (readonly number[])[];
  readonly update?: number;
}

/** On random tokens, the same in every run. */
export function trainingCase(
  rank: Trainee,
  mode: TrainingMode,
  shape: TrainingShape & { readonly policy: Policy },
): TrainingCase {
  const { model, program, values, update } = build(rank, mode, shape);
  const routings = model.routings.map(({ data }) => data);
  const session = new Session(rank, program, { keep: keptValues(model, values) });
  let feeds: ReturnType<typeof feedBatch>[] = [];
  let norm = 1;
  return {
    session,
    prepare() {
      rank.gradients.zero();
      feeds = values.map((_, micro) => feedMicroBatch(rank, model, shape, micro));
    },
    run(schedule) {
      const fed = new Map(
        feeds.flatMap((feed, micro) =>
          [...feed.values].map(([value, content]) => [values[micro][value], content]),
        ),
      );
      const { clip_norm: clipNorm } = UPDATE.options;
      if (update !== undefined) fed.set(update, { ...UPDATE, gradScale: clipFactor(norm, clipNorm) });
      const run = session.run(schedule, fed);
      if (update !== undefined) norm = gradientNorm(rank);
      return run;
    },
    release() {
      for (const feed of feeds) feed.release();
      feeds = [];
    },
    loads: (run) =>
      routings.map(({ routing, shape: moe }) => ({
        shape: moe,
        rows: [...run.read<RoutingValue>(routing).routing.load],
      })),
  };
}

function build(
  rank: Trainee,
  mode: TrainingMode,
  {
    policy,
    splitWeightGradients: isSplit,
    microBatches,
    wireGradients,
    ...sizes
  }: TrainingShape & { readonly policy: Policy },
): Built {
  const wires = { ...sizes, epSize: rank.ep.size, ranks: rank.world.size, chunks: policy.chunks };
  const splitWeightGradients = isSplit && policy.name !== "sequential";
  if (mode === "step") {
    const shape = { ...wires, splitWeightGradients, microBatches, microBatchesAtOnce: microBatches };
    const { model, program, values } = stepModel(rank.config, shape);
    const { epSize, ranks } = wires;
    const { zero, weights } = rank;
    const buckets = reductionBuckets(weights.buckets, { ranks, epSize, zero, wire: wireGradients });
    return { model, values, ...wholeStep(program, buckets) };
  }
  const model: Built["model"] =
    mode === "forward"
      ? buildProgram(rank.config, { ...wires, head: "losses" })
      : buildTrainingProgram(rank.config, { ...wires, splitWeightGradients });
  return { model, program: model.program, values: [model.program.values.map(({ id }) => id)] };
}

function feedMicroBatch(
  rank: Trainee,
  model: Built["model"],
  { batch, sequence }: TrainingShape,
  micro: number,
): ReturnType<typeof feedBatch> {
  // Far from each other, so that no rank's tokens are another's.
  const seed = 7 + rank.world.rank + 1000 * micro;
  const data = randomBatch(rank.config.vocab_size, batch * sequence, seed);
  return feedBatch(rank, model, data, { step: 0, seed: 0, share: 1, scales: { balance: 0.01, z: 0 } });
}
