/** Runs a job on this process's rank of an MPI job: the launcher has started the others. */
import { Worker } from "node:worker_threads";
import { launcherRank, mpiLibrary } from "../comm/mpi/library.js";
import { LABEL_BYTES } from "../comm/threads/board.js";
import { refuseTelemetry } from "../core/telemetry.js";
import type { Job, LineEvent, Outcome } from "./job.js";
import { type FromWorker, type WorkerData, revive } from "./messages.js";
import { builtModule, workerFile } from "./module.js";
import { DEFAULT_DEADLINE_MS, type LaunchOptions } from "./options.js";
import { stopOn } from "./stop.js";

export async function launchMpi<O, R, E = never>(
  { module, name }: Job<O, R, E>,
  options: O,
  { deadlineMs = DEFAULT_DEADLINE_MS, signal, onEvent }: LaunchOptions<E>,
): Promise<Outcome<R>> {
  refuseTelemetry();
  const rank = launcherRank();
  mpiLibrary();
  const stop = stopOn(signal);
  const label = new Uint8Array(new SharedArrayBuffer(LABEL_BYTES));
  const emit = (event: LineEvent | E): void => {
    if (rank === 0) onEvent?.(event);
  };
  const operator = (): string =>
    Buffer.from(Uint8Array.from(label)).toString("utf8").replace(/\0.*$/s, "") || "start-up";
  // The launcher ends all ranks with SIGTERM when one of them is gone, and on Ctrl-C.
  const onTerm = (): void => {
    process.stderr.write(
      `scmoe: rank ${rank}: ended by the launcher (another rank is gone?) while in ${operator()}\n`,
    );
    process.exit(1);
  };
  process.on("SIGTERM", onTerm);
  let result: unknown;
  let failure: Error | undefined;
  await new Promise<void>((resolve) => {
    const data: WorkerData = {
      job: { module: builtModule(module), name },
      options,
      rank,
      board: undefined,
      mpi: { deadlineMs, label },
      stop: stop.word,
    };
    const worker = new Worker(workerFile(), { workerData: data });
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "error") failure = revive(message, rank);
      else if (message.kind === "result") result = message.value;
      else emit(message.event as LineEvent | E);
    });
    worker.on("error", (error: Error) => (failure ??= error));
    worker.on("exit", () => resolve());
  });
  stop.release();
  process.off("SIGTERM", onTerm);
  if (failure !== undefined) {
    emit({ kind: "progress", line: "" });
    // Printed here, because ending the job ends this process, too.
    process.stderr.write(`scmoe: ${failure.message.split("\n")[0]}\n`);
    const code = (failure as { exitCode?: number }).exitCode ?? 1;
    mpiLibrary().abort(code);
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    process.exit(code);
  }
  return { result: result as R, interrupted: stop.isAsked() };
}
