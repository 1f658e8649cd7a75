/** Plays a case on the ranks of a launch, or what one rank runs in its stead; rank 0 learns everything. */
import { deserialize, serialize } from "node:v8";
import { allGather, broadcastJson } from "../../../src/comm/collectives.js";
import type { Communicator } from "../../../src/comm/communicator.js";
import { fnv1a } from "../../../src/core/hash.js";
import { philox } from "../../../src/core/rng.js";
import type { Engine } from "../../../src/engine/engine.js";
import { resolveModel } from "../../../src/model/config.js";
import type { Routing } from "../../../src/run/moe/routing.js";
import { eager } from "../../../src/schedule/list-schedule.js";
import { parsePolicy } from "../../../src/schedule/policy.js";
import { sequential } from "../../../src/schedule/sequential.js";
import type { Costs } from "../../../src/simulate/costs.js";
import type { MicroBatch } from "../../../src/train/micro-batch.js";
import type { AdamWOptions, Update } from "../../../src/train/optimizer.js";
import { type StepReport, applyUpdate, computeStep } from "../../../src/train/step.js";
import { type Scheduler, type StepSessions, openStep, reschedule } from "../../../src/train/step-sessions.js";
import { type Trainee, createTrainee } from "../../../src/train/trainee.js";
import type { Case } from "./case.js";
import { moveCheckpoint } from "./checkpoint.js";
import { piece, sequencesOf, setWeights } from "./feed.js";
import { watch } from "./watch.js";
import { type Slice, assemble, hashOf, momentSlices, slicesOfRank } from "./slices.js";

/** Of one routing in one step, by token of the step. */
export interface Choices {
  readonly numExperts: number;
  readonly topK: number;
  /** [T, K] experts that were chosen, and rows found there: −1 dropped. */
  readonly choice: Int32Array;
  readonly isKept: Uint8Array;
  /** [T, N] */
  readonly probabilities: Float32Array;
}

export interface PlayedStep extends Pick<
  StepReport,
  "lmLoss" | "balanceLoss" | "zLoss" | "loss" | "gradientNorm"
> {
  readonly tokensPerExpert: readonly (readonly number[])[];
  readonly choices: readonly Choices[];
  /** [N] of each routing, in force in this step; without one: zeros. */
  readonly biases: readonly Float32Array[];
}

/** Tensors are whole, whatever ranks held them. */
export interface Played {
  readonly steps: readonly PlayedStep[];
  /** Of the first step, before clipping. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly moments: ReadonlyMap<string, Float32Array>;
  /** Selection biases. */
  readonly buffers: ReadonlyMap<string, Float32Array>;
  /** What was wrong without any comparison. */
  readonly problems: readonly string[];
}

export const LEARNING_RATE = 0.01;

/** AdamW divides by a root that is never small, so that rounding noise in a gradient stays noise in the weight. */
export function optimizerOf({ clipNorm }: Case): AdamWOptions {
  return { betas: [0.9, 0.95], eps: 1e-2, weight_decay: 0.1, clip_norm: clipNorm };
}

export function playLayout(world: Communicator, engine: Engine, of: Case): Played {
  const config = resolveModel(of.model);
  const rank = createTrainee({ config, engine, world, epSize: of.ep, zero: of.zero });
  const policy = parsePolicy(of.policy);
  const costs: Costs = (op) => 0.01 + philox(of.seed, "costs").uniform(fnv1a(op.cost));
  const together =
    (make: Scheduler): Scheduler =>
    (program) =>
      broadcastJson(world, world.rank === 0 ? make(program) : undefined, 0, "schedule");
  const sessions = openStep(
    rank,
    {
      batch: of.batch,
      sequence: of.sequence,
      microBatches: of.microBatches,
      epSize: rank.ep.size,
      chunks: policy.chunks,
      recompute: of.recompute,
      splitWeightGradients: of.splitWeightGradients,
      wire: of.wire,
      documents: of.documents,
    },
    together((program) => policy.schedule(program, costs)),
  );
  const other: Scheduler =
    of.policy === "sequential" ? (program) => eager(program, costs) : (program) => sequential(program);
  const micros = (step: number): MicroBatch[] =>
    Array.from({ length: of.microBatches }, (_, micro) => piece(of, step, { micro, rank: world.rank }));
  const problems: string[] = [];
  const first = playSteps(rank, sessions, of, { micros, problems });
  const played = first.gathered();
  const second = playSteps(rank, reschedule(sessions, together(other)), of, { micros, problems });
  if (first.bits !== second.bits) problems.push("another schedule of its program gives other bits");
  if (of.twist === "a checkpoint that changes layouts") problems.push(...moveCheckpoint(rank, of, played));
  const all = gather(world, problems).flatMap((list, r) => list.map((what) => `rank ${r}: ${what}`));
  return { ...played, problems: [...played.problems, ...all] };
}

export interface StepsPlayed {
  readonly bits: string;
  /** Together with all ranks. */
  readonly gathered: () => Played;
}

export function playSteps(
  rank: Trainee,
  sessions: StepSessions,
  of: Case,
  how: {
    readonly micros: (step: number) => readonly MicroBatch[];
    readonly problems: string[];
    /** Weights differ by rounding from the case's. */
    readonly isNudged?: boolean;
    readonly run?: (
      this: void,
      watched: StepSessions,
      step: number,
      micros: readonly MicroBatch[],
    ) => StepReport;
  },
): StepsPlayed {
  setWeights(rank, of, how.isNudged);
  const bits: string[] = [];
  const steps: Omit<PlayedStep, "choices">[] = [];
  const found: Found[][] = [];
  let gradients: Slice[] = [];
  let left: Update | undefined;
  for (let step = 0; step < of.steps; step++) {
    const live = rank.memory.liveBytes;
    const biases = sessions.model.routings.map(
      ({ data: { shape } }) =>
        rank.weights.buffers.get(shape.selectionBias ?? "")?.data.slice() ??
        new Float32Array(shape.numExperts + shape.numZeroExperts),
    );
    const micros = how.micros(step);
    const { sessions: watched, routings } = watch(sessions);
    const run =
      how.run ??
      ((...[s, at, batches]) => {
        const options = { ...stepOptions(of, at), optimizer: optimizerOf(of) };
        const { report, update } = computeStep(rank, s, batches, options, left);
        left = update;
        if (update !== undefined && at === of.steps - 1) applyUpdate(s, update);
        return report;
      });
    const report = run(watched, step, micros);
    if (report.nonFinite !== undefined) how.problems.push(`step ${step}: ${report.nonFinite} is not finite`);
    if (rank.memory.liveBytes !== live)
      how.problems.push(`step ${step} keeps ${rank.memory.liveBytes - live} bytes`);
    const { lmLoss, balanceLoss, zLoss, loss, gradientNorm } = report;
    const tokensPerExpert = report.loads.map((load) => load.tokensPerExpert);
    steps.push({ lmLoss, balanceLoss, zLoss, loss, gradientNorm, tokensPerExpert, biases });
    bits.push(JSON.stringify([lmLoss, balanceLoss, zLoss, loss, gradientNorm, tokensPerExpert]));
    found.push(routings.map((list, i) => ({ firstToken: micros[i].firstToken, routings: list })));
    const arrays = rank.weights.buckets.flatMap((b) => [rank.gradients.bucket(b), b.weights]);
    bits.push(...arrays.map(hashOf));
    if (step === 0) gradients = slicesOfRank(rank, (bucket) => rank.gradients.bucket(bucket));
  }
  bits.push(...[...rank.moments.values()].flatMap((m) => [hashOf(m.expAvg), hashOf(m.expAvgSq)]));
  bits.push(...[...rank.weights.buffers.values()].map(({ data }) => hashOf(data)));
  return {
    bits: bits.join(),
    gathered: () => gatherPlayed(rank, of, { steps, found, gradients }),
  };
}

export function stepOptions(
  of: Case,
  step: number,
): { readonly step: number; readonly seed: number; readonly learningRate: number } {
  return { step, seed: of.seed, learningRate: LEARNING_RATE };
}

/** Routings of one micro-batch. */
interface Found {
  readonly firstToken: number;
  readonly routings: readonly Routing[];
}

function gatherPlayed(
  rank: Trainee,
  of: Case,
  own: {
    readonly steps: readonly Omit<PlayedStep, "choices">[];
    readonly found: readonly (readonly Found[])[];
    readonly gradients: readonly Slice[];
  },
): Played {
  const { world, weights } = rank;
  const epRank = rank.ep.rank;
  const whole = weights.buckets.map((bucket) => ({
    kind: bucket.kind,
    weights: hashOf(bucket.weights),
    // With ZeRO-1, of replicated tensors only a rank's own slice is summed.
    gradients: rank.zero && bucket.kind === "replicated" ? "" : hashOf(rank.gradients.bucket(bucket)),
  }));
  const buffers = new Map([...weights.buffers].map(([name, { data }]) => [name, data.slice()]));
  const all = gather(world, {
    epRank,
    whole,
    steps: own.steps,
    found: own.found,
    gradients: own.gradients,
    weights: slicesOfRank(rank, (bucket) => bucket.weights),
    moments: momentSlices(rank),
    buffers,
  });
  const problems: string[] = [];
  all.forEach((other, r) => {
    if (JSON.stringify(other.steps) !== JSON.stringify(all[0].steps))
      problems.push(`rank ${r} reports other losses than rank 0`);
    const like = all.find(({ epRank: e }) => e === other.epRank);
    other.whole.forEach((bucket, i) => {
      const wanted = (bucket.kind === "replicated" ? all[0] : like)?.whole.filter(
        ({ kind }) => kind === bucket.kind,
      );
      const at = other.whole.slice(0, i).filter(({ kind }) => kind === bucket.kind).length;
      for (const what of ["weights", "gradients"] as const)
        if (bucket[what] !== wanted?.[at][what])
          problems.push(`rank ${r} has other ${bucket.kind} ${what} than its replica`);
    });
    for (const [name, data] of other.buffers)
      if (hashOf(data) !== hashOf(all[0].buffers.get(name) ?? data))
        problems.push(`rank ${r} has another ${name} than rank 0`);
  });
  const steps = own.steps.map((step, s) => ({
    ...step,
    choices: byToken(
      sequencesOf(of) * of.sequence,
      all.flatMap(({ found }) => found[s]),
    ),
  }));
  return {
    steps,
    gradients: assemble(all.flatMap(({ gradients }) => gradients)),
    weights: assemble(all.flatMap((other) => other.weights)),
    moments: assemble(all.flatMap(({ moments }) => moments)),
    buffers,
    problems,
  };
}

function byToken(T: number, found: readonly Found[]): Choices[] {
  return (found[0]?.routings ?? []).map(({ classes: { classOf }, topK: K }, index) => {
    const N = classOf.length;
    const choice = new Int32Array(T * K).fill(-1);
    const isKept = new Uint8Array(T * K);
    const probabilities = new Float32Array(T * N).fill(NaN);
    for (const { firstToken, routings } of found) {
      const routing = routings[index];
      choice.set(routing.choice, firstToken * K);
      routing.rowInExpert.forEach((row, i) => (isKept[firstToken * K + i] = row < 0 ? 0 : 1));
      probabilities.set(routing.probabilities, firstToken * N);
    }
    return { numExperts: N, topK: K, choice, isKept, probabilities };
  });
}

function gather<T>(world: Communicator, value: T): T[] {
  if (world.size === 1) return [value];
  return allGather(world, serialize(value), "what was played")
    .wait()
    .map((bytes) => deserialize(Buffer.from(bytes)) as T);
}
