/** Training as a job of all ranks: prepare, loop, result. */
import { join } from "node:path";
import { createOrtEngine } from "../engine/ort-engine.js";
import { type ParameterCount, countParameters } from "../model/parameters.js";
import { peakResidentBytes } from "../core/available-memory.js";
import { type JobContext, defineJob } from "../launch/job.js";
import type { TimelineSummary } from "../timeline/timeline.js";
import { type LoopEnd, trainLoop } from "./loop.js";
import { checkpoints } from "./observers/checkpoints.js";
import { metricsFiles } from "./observers/metrics.js";
import type { Observer } from "./observers/observer.js";
import type { StepEvent } from "./event.js";
import { trainingNeed } from "./memory-need.js";
import type { OpenedRun } from "./open-run.js";
import { StepPicture } from "./observers/picture.js";
import { Progress } from "./observers/progress.js";
import { OverlapProof, type ProofReport } from "./observers/proof.js";
import { routingNames } from "./observers/report.js";
import { type PreparedRun, prepareRun } from "./prepare.js";
import { mainRun, placedRuns } from "./step-sessions.js";

/** What to do beside training. */
export interface BesideTraining {
  /** Train a twin sequentially beside, and compare losses, gradients and weights byte by byte. */
  readonly proveOverlap?: boolean | undefined;
  /** Draw timeline.html and timeline.json of a typical step; always on several ranks. */
  readonly timeline?: boolean | undefined;
  /** What progress lines begin with. Default: the architecture's name. */
  readonly label?: string | undefined;
}

export interface TrainTask extends OpenedRun, BesideTraining {}

/** What training came to; losses in nats per token. */
export interface TrainResult {
  readonly directory: string;
  readonly arch: string;
  readonly steps: number;
  /** Of the last step; null where none was left to do. */
  readonly trainLoss: number | null;
  readonly validationLoss: number | null;
  readonly unigramEntropy: number;
  /** Null where no step was left to do. */
  readonly tokensPerSecond: number | null;
  readonly parameters: ParameterCount;
  readonly schedule: string;
  /** With `proveOverlap`. */
  readonly proof: ProofReport | null;
  /** The picture of a typical step, where one was drawn. */
  readonly timeline: string | null;
  /** Medians of the last steps; null where none was left to do. */
  readonly timing: TimelineSummary | null;
  readonly memory: {
    readonly stateBytes: number;
    /** Peak of activations and kernels' intermediate results, worked out from program and schedule before the first step. */
    readonly predictedBytes: number;
    /** What the ranks of this process were predicted to need in all, before anything was allocated; and their peak as it was. */
    readonly neededBytes: number;
    /** The peak of activation memory as it was. */
    readonly activationBytes: number;
    readonly peakRssBytes: number;
  };
}

/** @throws InputError, EnvironmentError, CommError */
export const trainJob = defineJob(
  import.meta.url,
  "trainJob",
  async (context: JobContext<StepEvent>, task: TrainTask): Promise<TrainResult> => {
    const engine = createOrtEngine();
    try {
      const run = prepareRun(context, task, engine);
      const watching = watch(run, task);
      const end = await trainLoop(run, task.directory, watching.observers);
      return resultOf(run, watching, end, task);
    } finally {
      engine.dispose();
    }
  },
);

interface Watching {
  /** In the order they hear of a step. */
  readonly observers: readonly Observer[];
  readonly progress: Progress;
  readonly proof?: OverlapProof;
  readonly picture?: StepPicture;
}

function watch(run: PreparedRun, options: TrainTask): Watching {
  const { rank, context, placer, config, data, tokensPerStep } = run;
  const { train } = config;
  const { directory } = options;
  const { arch } = rank.config;
  const { world } = context;
  const proof = options.proveOverlap ? new OverlapProof(rank, placer.program) : undefined;
  const picture = options.timeline || world.size > 1 ? new StepPicture(world, directory, arch) : undefined;
  const routings = routingNames(placer.sessions.model);
  const interval = train.log_interval;
  const startStep = run.start.step;
  const metrics =
    world.rank === 0
      ? metricsFiles(directory, {
          startStep,
          interval,
          tokensPerStep,
          routings,
          say: (line) => context.say(line),
        })
      : undefined;
  const progress = new Progress({
    label: options.label ?? arch,
    steps: train.steps,
    tokensPerStep,
    context,
  });
  const saves = checkpoints(rank, {
    directory,
    data: data.directory,
    seed: train.seed,
    sequenceLength: config.data.sequence_length,
    interval: train.checkpoint_interval,
    minutes: train.checkpoint_minutes,
    keep: train.keep_checkpoints,
    afterwards: picture === undefined ? [] : [picture],
  });
  const learns: Observer = { step: ({ report }) => placer.remember(report.runs) };
  const observers = [proof, picture, learns, metrics, progress, saves];
  return { observers: observers.filter((o) => o !== undefined), progress, proof, picture };
}

function resultOf(
  { rank, config, data, placer, tokensPerStep }: PreparedRun,
  { progress, proof, picture }: Watching,
  { steps, validationLoss }: LoopEnd,
  { directory, proveOverlap }: TrainTask,
): TrainResult {
  const { kind, size: ranks } = rank.world;
  const places = { ranks, inProcess: kind === "mpi" ? 1 : ranks };
  const { typical, last } = progress;
  const isIdle = last === undefined;
  const { model } = placer.sessions;
  const peaks = placedRuns(placer.sessions).map(
    ({ session, schedule }) => session.peakMemory(schedule, model.symbols).bytes,
  );
  return {
    directory,
    arch: rank.config.arch,
    steps,
    trainLoss: last?.report.lmLoss ?? null,
    validationLoss,
    unigramEntropy: data.unigramEntropy,
    tokensPerSecond: isIdle ? null : (tokensPerStep / typical.stepMs) * 1e3,
    parameters: countParameters(rank.config),
    schedule: mainRun(placer.sessions).schedule.note,
    timeline: picture === undefined ? null : join(directory, "timeline.html"),
    proof: proof?.report ?? null,
    timing: isIdle ? null : typical,
    memory: {
      stateBytes: rank.stateBytes,
      predictedBytes: Math.max(...peaks),
      activationBytes: rank.memory.peakBytes,
      neededBytes: trainingNeed(config, { ...places, proveOverlap }).process,
      peakRssBytes: peakResidentBytes(),
    },
  };
}
