/** Plans carried out by ranks elsewhere: threads of this process, or processes that an MPI launcher has started. */
import type { Link } from "../../comm/link.js";
import { launcherRank, launcherSize } from "../../comm/mpi/library.js";
import { EnvironmentError } from "../../core/errors.js";
import { createOutbox } from "../../launch/inbox.js";
import type { Job, LineEvent } from "../../launch/job.js";
import { launch } from "../../launch/launch.js";
import type { RunnerCommand, RunnerEvent } from "./rank-runner.js";
import type { RunnerShape, StepPlan, StepResult, StepRunner } from "../step-plan.js";

/** How ranks are started; see `LaunchOptions`. */
export interface RunnerLaunch {
  readonly ranks?: number | undefined;
  readonly link?: Link | undefined;
  readonly deadlineMs?: number | undefined;
  /** Hears what is said for people. */
  readonly onLine?: ((event: LineEvent) => void) | undefined;
}

export interface LaunchedRunner extends StepRunner {
  /** Plans are carried out one after another; each rejects with the error of the rank that is lost, if one is. */
  run(plan: StepPlan): Promise<StepResult>;
  /** Asks the ranks' models (`ModelRunner.answer`), between two steps. */
  ask(question: unknown): Promise<unknown>;
  /** Ends all ranks after what they have been told to do; never rejects. */
  close(): Promise<void>;
}

export interface LaunchedRanks {
  /** Of the process that rank 0 is in. Another one, under an MPI launcher, has nothing to do but to wait for the end. */
  readonly runner?: LaunchedRunner | undefined;
  /** When all ranks have ended; rejects with the error of the one that was lost first. */
  readonly ended: Promise<void>;
}

interface Asked {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Launches a job whose body is `serveModel`, and waits until its model is open on all ranks. Under an MPI launcher every process
 * calls it.
 * @throws the error of the rank that failed first
 */
export async function launchRunner<O>(
  job: Job<O, void, RunnerEvent>,
  options: O,
  { onLine, ...how }: RunnerLaunch = {},
): Promise<LaunchedRanks> {
  const outbox = createOutbox();
  const asked: Asked[] = [];
  let failure: Error | undefined;
  let isOver = false;
  const answered = (value: unknown): void => asked.shift()?.resolve(value as never);
  const shape = new Promise<RunnerShape>((resolve, reject) => asked.push({ resolve, reject }));
  const ended = launch(job, options, {
    ...how,
    outbox,
    onEvent: (event) => {
      if (event.kind === "ready") answered(event.shape);
      else if (event.kind === "step") answered(event.result);
      else if (event.kind === "answer") answered(event.answer);
      else onLine?.(event);
    },
  })
    .then(
      () => undefined,
      (error: unknown) => {
        failure = error as Error;
        throw error;
      },
    )
    .finally(() => {
      isOver = true;
      for (const { reject } of asked.splice(0)) reject(failure ?? closed());
    });
  // Whoever does not look at one of them hears of a loss from the other, or from `run`.
  for (const promise of [ended, shape]) promise.catch(() => undefined);
  if (launcherSize() !== undefined && launcherRank() !== 0) return { ended };
  const tell = <T>(command: RunnerCommand): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      if (isOver) return reject(failure ?? closed());
      asked.push({ resolve, reject });
      outbox.post(command);
    });
  const runner: LaunchedRunner = {
    shape: await shape,
    run: (plan) => tell({ kind: "step", plan }),
    ask: (question) => tell({ kind: "question", question }),
    close() {
      outbox.close();
      return ended.catch(() => undefined);
    },
  };
  return { runner, ended };
}

function closed(): Error {
  return new EnvironmentError("The ranks have been closed; launch them again");
}
