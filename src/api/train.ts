import { launcherRank, launcherSize } from "../comm/mpi/library.js";
import { launch } from "../launch/launch.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { type DirectoryLock, lockDirectory } from "../storage/directory-lock.js";
import type { StepEvent } from "../train/event.js";
import { trainingNeed } from "../train/memory-need.js";
import { type RunSource, openRun, refuseToMix } from "../train/open-run.js";
import { type BesideTraining, type TrainResult, trainJob } from "../train/train-job.js";
import { announceMemory, rankPlaces } from "./memory.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** What to train and how to run it; `onEvent` hears a `StepEvent` after every step. */
export interface TrainOptions extends RunOptions<StepEvent>, RunSource, BesideTraining, MemoryOptions {}

/** A run that has ended. */
export interface Trained extends TrainResult {
  /** Whether it had been asked to stop: `resume` goes on, bit for bit as if it had not stopped. */
  readonly interrupted: boolean;
}

/**
 * Trains a model and writes a run directory that can be resumed, evaluated and sampled. A resumed run has as many ranks as
 * before, unless their number is given. Quiet: what there is to say comes as events.
 * @throws InputError on a wrong config or directory, one that another training writes to, or when there is too little memory;
 *   EnvironmentError when files cannot be written; NumericsError when numbers are no longer finite; CommError when a rank is
 *   lost; InterruptedError when it is asked to stop before there is anything to save
 */
export async function train(options: TrainOptions): Promise<Trained> {
  const { proveOverlap, timeline, label } = options;
  const run = openRun(options);
  refuseToMix(run);
  const isMpi = launcherSize() !== undefined;
  const ranks = options.ranks ?? (isMpi ? undefined : run.resume?.before.ranks);
  announceMemory(trainingNeed(run.config, { ...rankPlaces(ranks), proveOverlap }), options);
  const task = { ...run, proveOverlap, timeline, label };
  const lock = isMpi && launcherRank() > 0 ? undefined : lockDirectory(run.directory);
  return await whileLocked(lock, async () => {
    const { result, interrupted } = await launch(trainJob, task, launchOptions({ ...options, ranks }));
    return { ...result, interrupted };
  });
}

async function whileLocked<T>(lock: DirectoryLock | undefined, action: () => Promise<T>): Promise<T> {
  const release = (): void => lock?.release();
  // An exit at once (a second Ctrl-C) leaves no lock behind.
  process.on("exit", release);
  try {
    return await action();
  } finally {
    process.off("exit", release);
    release();
  }
}
