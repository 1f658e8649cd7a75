import type { Communicator } from "../comm/communicator.js";
import { CommError, exitCodeOf } from "../core/errors.js";
import type { JobRequest } from "../run/job.js";
import { JOBS } from "./jobs.js";
import type { FromWorker } from "./worker.js";

/** Runs one rank's part of a job; whatever happens becomes a message, and the other ranks hear of a failure. */
export async function runRank(
  request: JobRequest,
  at: { join: () => Communicator; stop: Int32Array; post: (message: FromWorker) => void },
): Promise<FromWorker> {
  const { stop, post } = at;
  let world: Communicator | undefined;
  try {
    world = at.join();
    const job = JOBS[request.job as keyof typeof JOBS];
    const context = {
      world,
      interrupted: () => Atomics.load(stop, 0) > 0,
      say: (line: string) => post({ kind: "say", line }),
      progress: (line: string) => post({ kind: "progress", line }),
    };
    return { kind: "result", value: await job(context, request.options as never) };
  } catch (thrown) {
    const error = thrown as Error & { exitCode?: number };
    world?.abort(error.message);
    const { message, stack } = error;
    return {
      kind: "error",
      message,
      exitCode: exitCodeOf(error),
      stack,
      aboutPeer: error instanceof CommError,
    };
  } finally {
    world?.close();
  }
}
