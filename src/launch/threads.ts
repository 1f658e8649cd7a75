/** Runs a job on N ranks, each a worker thread of this process: JavaScript of one rank never delays another's. */
import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import type { Link } from "../comm/link.js";
import { BoardView, createBoard } from "../comm/threads/board.js";
import { EnvironmentError, InputError, InterruptedError } from "../core/errors.js";
import { refuseTelemetry } from "../core/telemetry.js";
import type { JobRequest, Outcome } from "../run/job.js";
import { createTerminal } from "./terminal.js";
import type { FromWorker, WorkerData } from "./worker.js";

export interface LaunchOptions {
  /** Default 1. */
  readonly ranks?: number;
  readonly link?: Link;
  /** Longest wait for another rank. Default 60 s. */
  readonly deadlineMs?: number;
  /** No progress on the terminal. */
  readonly quiet?: boolean;
  /** Wires Ctrl-C to `JobContext.interrupted`. Default false: tests and libraries keep their own signals. */
  readonly handleSignals?: boolean;
}

const MAX_RANKS = 64;
/** How long ranks may take to notice that another has failed. */
const GRACE_MS = 5_000;

/**
 * @param entry what a rank's thread runs
 * @throws the error of the rank that failed first, labelled with its rank; the other ranks have ended by then
 */
export async function launchThreads<R>(
  request: JobRequest,
  options: LaunchOptions,
  entry: URL = workerFile(),
): Promise<Outcome<R>> {
  const { ranks = 1 } = options;
  if (!Number.isInteger(ranks) || ranks < 1 || ranks > MAX_RANKS)
    throw new InputError(`The number of ranks is ${ranks}; wanted a whole number from 1 to ${MAX_RANKS}`);
  refuseTelemetry();
  const board = createBoard({ size: ranks, link: options.link, deadlineMs: options.deadlineMs ?? 60_000 });
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const terminal = createTerminal(options.quiet ?? false);
  const removeHandlers = options.handleSignals
    ? handleSignals(stop, (line) => terminal.say(line))
    : () => undefined;
  const view = new BoardView(board);
  let firstError: Error | undefined;
  let isAboutPeer = false;
  let result: R | undefined;
  const workers: Worker[] = [];
  const ended = Array.from({ length: ranks }, (_, rank) => {
    const data: WorkerData = { request, rank, board: ranks > 1 ? board : undefined, stop };
    const worker = new Worker(entry, { workerData: data, stdin: false });
    workers.push(worker);
    const fail = (error: Error, aboutPeer = false): void => {
      // Messages of threads arrive in any order: the cause may come after its consequence.
      if (firstError === undefined || (isAboutPeer && !aboutPeer))
        [firstError, isAboutPeer] = [error, aboutPeer];
      view.giveUp(error.message);
      // A rank that computes something long must not keep the rest waiting for ever.
      setTimeout(() => workers.forEach((w) => void w.terminate()), GRACE_MS).unref();
    };
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "error") fail(revive(message, ranks > 1 ? rank : undefined), message.aboutPeer);
      else if (message.kind === "result" && rank === 0) result = message.value as R;
      else if (message.kind === "say" && rank === 0) terminal.say(message.line);
      else if (message.kind === "progress" && rank === 0) terminal.progress(message.line);
    });
    worker.on("error", (error: Error) => fail(crashed(error, rank)));
    return new Promise<void>((resolve) =>
      worker.on("exit", (code) => {
        if (code !== 0 && firstError === undefined)
          fail(new EnvironmentError(`rank ${rank}: its thread ended unexpectedly (exit code ${code})`));
        resolve();
      }),
    );
  });
  await Promise.all(ended);
  terminal.close();
  removeHandlers();
  if (firstError !== undefined) throw firstError;
  return { result: result as R, interrupted: Atomics.load(stop, 0) > 0 };
}

/** A thread that died of something no rank reports itself. */
function crashed(error: Error & { code?: string }, rank: number): Error {
  if (error.code === "ERR_WORKER_OUT_OF_MEMORY")
    return new EnvironmentError(
      `rank ${rank}: out of JavaScript memory; set NODE_OPTIONS=--max-old-space-size=MiB to allow more`,
    );
  error.message = `rank ${rank}: ${error.message}`;
  return error;
}

/** First Ctrl-C asks, the second leaves at once: files are only ever replaced whole, so nothing is harmed. */
export function handleSignals(
  stop: Int32Array,
  say: (line: string) => void,
  signals: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"],
): () => void {
  const onSignal = (): void => {
    if (Atomics.add(stop, 0, 1) > 0) process.exit(130);
    say("Interrupted: finishing the step and saving; press Ctrl-C again to exit at once");
  };
  for (const signal of signals) process.on(signal, onSignal);
  return () => {
    for (const signal of signals) process.off(signal, onSignal);
  };
}

/** Tests run from the sources; threads always run what was built. */
export function workerFile(): URL {
  const here = new URL("./worker.js", import.meta.url);
  return existsSync(here) ? here : new URL("../../dist/launch/worker.js", import.meta.url);
}

export function revive(message: Extract<FromWorker, { kind: "error" }>, rank: number | undefined): Error {
  const text = rank === undefined ? message.message : `rank ${rank}: ${message.message}`;
  if (message.exitCode === 2) return new InputError(text);
  if (message.exitCode === 130) return new InterruptedError(message.message);
  if (message.exitCode === 1) return new EnvironmentError(text);
  const error = new Error(text);
  error.stack = message.stack;
  return error;
}
