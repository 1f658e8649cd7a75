/** Runs a job on this process's rank of an MPI job: the launcher has started the others. */
import { launcherRank, mpiLibrary } from "../comm/mpi/library.js";
import { LABEL_BYTES, readText } from "../comm/threads/board.js";
import { refuseTelemetry } from "../core/telemetry.js";
import type { Job, LineEvent, Outcome } from "./job.js";
import { type FromWorker, revive } from "./messages.js";
import { startRank } from "./module.js";
import { DEFAULT_DEADLINE_MS, type LaunchOptions } from "./options.js";
import { stopOn } from "./stop.js";

export async function launchMpi<O, R, E = never>(
  job: Job<O, R, E>,
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
  // The launcher ends all ranks with SIGTERM when one of them is gone, and on Ctrl-C.
  const onTerm = (): void => {
    process.stderr.write(
      `scmoe: rank ${rank}: ended by the launcher (another rank is gone?) while in ${readText(label) || "start-up"}\n`,
    );
    process.exit(1);
  };
  process.on("SIGTERM", onTerm);
  let result: unknown;
  let failure: Error | undefined;
  await new Promise<void>((resolve) => {
    const worker = startRank(job, { options, rank, mpi: { deadlineMs, label }, stop: stop.word });
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
