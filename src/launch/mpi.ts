/** Runs a job on this process's rank of an MPI job: the launcher has started the others. */
import { Worker } from "node:worker_threads";
import { launcherRank, mpiLibrary } from "../comm/mpi/library.js";
import { LABEL_BYTES } from "../comm/threads/board.js";
import { refuseTelemetry } from "../core/telemetry.js";
import type { JobRequest, Outcome } from "../run/job.js";
import { type LaunchOptions, handleSignals, revive, workerFile } from "./threads.js";
import { createTerminal } from "./terminal.js";
import type { FromWorker, WorkerData } from "./worker.js";

/** @returns the result on rank 0, undefined elsewhere */
export async function launchMpi<R>(
  request: JobRequest,
  options: Omit<LaunchOptions, "ranks" | "link">,
): Promise<Outcome<R>> {
  refuseTelemetry();
  const rank = launcherRank();
  mpiLibrary();
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const label = new Uint8Array(new SharedArrayBuffer(LABEL_BYTES));
  const terminal = createTerminal((options.quiet ?? false) || rank !== 0);
  const operator = (): string =>
    Buffer.from(Uint8Array.from(label)).toString("utf8").replace(/\0.*$/s, "") || "start-up";
  // The launcher ends all ranks with SIGTERM when one of them is gone, and on Ctrl-C; it hands on SIGUSR2.
  const onTerm = (): void => {
    process.stderr.write(
      `scmoe: rank ${rank}: ended by the launcher (another rank is gone?) while in ${operator()}\n`,
    );
    process.exit(1);
  };
  process.on("SIGTERM", onTerm);
  const removeHandlers = options.handleSignals
    ? handleSignals(stop, (line) => terminal.say(line), ["SIGINT", "SIGUSR2"])
    : () => undefined;
  let result: R | undefined;
  let failure: Error | undefined;
  await new Promise<void>((resolve) => {
    const data: WorkerData = {
      request,
      rank,
      board: undefined,
      mpi: { deadlineMs: options.deadlineMs ?? 60_000, label },
      stop,
    };
    const worker = new Worker(workerFile(), { workerData: data });
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "error") failure = revive(message, rank);
      else if (message.kind === "result" && rank === 0) result = message.value as R;
      else if (message.kind === "say") terminal.say(message.line);
      else if (message.kind === "progress") terminal.progress(message.line);
    });
    worker.on("error", (error: Error) => (failure ??= error));
    worker.on("exit", () => resolve());
  });
  terminal.close();
  removeHandlers();
  process.off("SIGTERM", onTerm);
  if (failure !== undefined) {
    // Printed here, because ending the job ends this process, too.
    process.stderr.write(`scmoe: ${failure.message.split("\n")[0]}\n`);
    const code = (failure as { exitCode?: number }).exitCode ?? 1;
    mpiLibrary().abort(code);
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    process.exit(code);
  }
  return { result: result as R, interrupted: Atomics.load(stop, 0) > 0 };
}
