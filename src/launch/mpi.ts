/** Runs a job on this process's rank of an MPI job: the launcher has started the others. */
import { setTimeout as sleep } from "node:timers/promises";
import { launcherRank, mpiLibrary } from "../comm/mpi/library.js";
import { LABEL_BYTES, readText } from "../comm/threads/board.js";
import { EnvironmentError } from "../core/errors.js";
import { exitAtOnce } from "../core/exit.js";
import { refuseTelemetry } from "../core/telemetry.js";
import type { Job, LineEvent, Outcome } from "./job.js";
import type { ProcessIdentity } from "../storage/process-identity.js";
import { endedRanks, lossLine, namedRanks, stepText } from "./lost.js";
import { type Failure, type FromWorker, revive } from "./messages.js";
import { startRank } from "./module.js";
import { DEFAULT_DEADLINE_MS, type LaunchOptions } from "./options.js";
import { stopOn } from "./stop.js";

/** From being ended by the launcher to a look at who else is there: the cause may have ended just now. */
const LOOK_MS = 150;
/** Until this rank leaves, too: others look whether it is still there. The launcher kills after a second. */
const STAY_MS = 350;
/** A rank whose failure follows from another's, or is the same on all ranks, lets a lower one speak first. */
const LET_SPEAK_MS = 1_500;

export async function launchMpi<O, R, E = never>(
  job: Job<O, R, E>,
  options: O,
  { deadlineMs = DEFAULT_DEADLINE_MS, signal, onEvent, outbox }: LaunchOptions<E>,
): Promise<Outcome<R>> {
  refuseTelemetry();
  const rank = launcherRank();
  mpiLibrary();
  const stop = stopOn(signal);
  const label = new Uint8Array(new SharedArrayBuffer(LABEL_BYTES));
  const step = new Int32Array(new SharedArrayBuffer(4));
  const emit = (event: LineEvent | E): void => {
    if (rank === 0) onEvent?.(event);
  };
  let ranks: readonly ProcessIdentity[] = [];
  let result: unknown;
  let failure: Failure | Error | undefined;
  // The launcher ends all ranks with SIGTERM when one of them is gone, and on Ctrl-C.
  const onTerm = async (): Promise<void> => {
    if (failure !== undefined) exitAtOnce(1);
    let ended = endedRanks(ranks);
    await sleep(LOOK_MS);
    if (ended.length === 0) ended = endedRanks(ranks);
    const silent = ended.length === 0 ? silentRanks(ranks.length) : [];
    const line = lossLine({ rank, ranks, ended, silent, operator: readText(label), step: step[0] });
    if (line !== undefined) process.stderr.write(`scmoe: ${line}\n`);
    await sleep(STAY_MS);
    exitAtOnce(1);
  };
  const listener = (): void => void onTerm();
  process.once("SIGTERM", listener);
  await new Promise<void>((resolve) => {
    const inbox = rank === 0 ? outbox?.end : undefined;
    const mpi = { deadlineMs, label };
    const worker = startRank(job, { options, rank, mpi, inbox, stop: stop.word, step });
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "error") failure ??= message;
      else if (message.kind === "ranks") ranks = message.ranks;
      else if (message.kind === "result") result = message.value;
      else emit(message.event as LineEvent | E);
    });
    worker.on("error", (error: Error) => (failure ??= error));
    worker.on("exit", (code) => {
      if (code !== 0)
        failure ??= new EnvironmentError(`rank ${rank}: its thread ended unexpectedly (exit code ${code})`);
      resolve();
    });
  });
  stop.release();
  if (failure !== undefined) {
    emit({ kind: "progress", line: "" });
    await fail(failure, { rank, ranks, step: step[0] });
  }
  process.off("SIGTERM", listener);
  return { result: result as R, interrupted: stop.isAsked() };
}

/** Peers of this rank that have not done their part of its oldest exchange. */
function silentRanks(size: number): number[] {
  const found = new Int32Array(Math.max(1, size));
  return [...found.subarray(0, mpiLibrary().missing(found, size))].sort((a, b) => a - b);
}

/** Says why, and ends the job, and with it this process. */
async function fail(
  failure: Failure | Error,
  { rank, ranks, step }: { rank: number; ranks: readonly ProcessIdentity[]; step: number },
): Promise<never> {
  const error = failure instanceof Error ? failure : revive(failure, rank);
  const { exitCode = 1 } = error as { exitCode?: number };
  const peers = failure instanceof Error ? undefined : failure.peers;
  const lower = Array.from({ length: rank }, (_, r) => r).filter((r) => !peers?.includes(r));
  if ((peers !== undefined || exitCode === 2) && lower.length > 0) await sleep(LET_SPEAK_MS);
  const hosts = peers === undefined || peers.length === 0 ? "" : `; missing: ${namedRanks(peers, ranks)}`;
  // Said here, because ending the job ends this process, too.
  const told = exitCode === 1 ? hosts + stepText(step) : "";
  process.stderr.write(`scmoe: ${error.message.split("\n")[0]}${told}\n`);
  mpiLibrary().abort(exitCode);
  await sleep(5_000);
  return exitAtOnce(exitCode);
}
