/** Runs a job on N ranks, each a worker thread of this process: JavaScript of one rank never delays another's. */
import type { Worker } from "node:worker_threads";
import { BoardView, createBoard } from "../comm/threads/board.js";
import { BOUNDS, fits, wanted } from "../core/bounds.js";
import { EnvironmentError, InputError } from "../core/errors.js";
import { refuseTelemetry } from "../core/telemetry.js";
import type { Job, LineEvent, Outcome } from "./job.js";
import { stepText } from "./lost.js";
import { type FromWorker, revive } from "./messages.js";
import { startRank } from "./module.js";
import { DEFAULT_DEADLINE_MS, type LaunchOptions } from "./options.js";
import { stopOn } from "./stop.js";

/** How long ranks may take to notice that another has failed. */
const GRACE_MS = 5_000;

/** @throws the error of the rank that failed first, labelled with its rank; the other ranks have ended by then */
export async function launchThreads<O, R, E = never>(
  job: Job<O, R, E>,
  options: O,
  how: LaunchOptions<E>,
): Promise<Outcome<R>> {
  const { ranks = 1, link, deadlineMs = DEFAULT_DEADLINE_MS, onEvent, outbox } = how;
  checkRanks(ranks);
  refuseTelemetry();
  const board = createBoard({ size: ranks, link, deadlineMs });
  const stop = stopOn(how.signal);
  const view = new BoardView(board);
  const step = new Int32Array(new SharedArrayBuffer(4));
  let firstError: Error | undefined;
  let isAboutPeer = false;
  let result: unknown;
  const workers: Worker[] = [];
  const ended = Array.from({ length: ranks }, (_, rank) => {
    const worker = startRank(job, {
      options,
      rank,
      board: ranks > 1 ? board : undefined,
      inbox: rank === 0 ? outbox?.end : undefined,
      stop: stop.word,
      step,
    });
    workers.push(worker);
    const fail = (error: Error, aboutPeer = false): void => {
      // Messages of threads arrive in any order: the cause may come after its consequence.
      if (firstError === undefined || (isAboutPeer && !aboutPeer))
        [firstError, isAboutPeer] = [error, aboutPeer];
      view.giveUp(error.message);
      outbox?.close();
      // A rank that computes something long must not keep the rest waiting for ever.
      setTimeout(() => workers.forEach((w) => void w.terminate()), GRACE_MS).unref();
    };
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "error")
        fail(revive(message, ranks > 1 ? rank : undefined), message.peers !== undefined);
      else if (rank > 0 || message.kind === "ranks") return;
      else if (message.kind === "result") result = message.value;
      else onEvent?.(message.event as LineEvent | E);
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
  stop.release();
  if (firstError instanceof EnvironmentError && ranks > 1) firstError.message += stepText(step[0]);
  if (firstError !== undefined) throw firstError;
  return { result: result as R, interrupted: stop.isAsked() };
}

/** @throws InputError when so many threads cannot be launched */
export function checkRanks(ranks: number): void {
  if (!fits(ranks, BOUNDS.ranks))
    throw new InputError(`The number of ranks is ${ranks}; wanted ${wanted(BOUNDS.ranks)}`);
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
