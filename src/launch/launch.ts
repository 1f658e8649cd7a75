import { workerData } from "node:worker_threads";
import { checkLink } from "../comm/link.js";
import { launcherSize } from "../comm/mpi/library.js";
import { BOUNDS, checkBounds } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import type { Job, Outcome } from "./job.js";
import type { WorkerData } from "./messages.js";
import { launchMpi } from "./mpi.js";
import type { LaunchOptions } from "./options.js";
import { launchThreads } from "./threads.js";

/**
 * Runs a job: under an MPI launcher as one of its ranks, otherwise on threads of this process.
 * @param options of the job, plain data: every rank gets a copy
 * @throws the error of the rank that failed first, labelled with its rank; the other ranks have ended by then. Under an
 *   MPI launcher a failure ends this process with its exit code, as the launcher expects.
 */
export function launch<O, R, E = never>(
  job: Job<O, R, E>,
  options: O,
  how: LaunchOptions<E> = {},
): Promise<Outcome<R>> {
  refuseWithinRank(job);
  checkBounds("launch", { deadlineMs: how.deadlineMs }, { deadlineMs: BOUNDS.deadlineMs });
  if (how.link !== undefined) checkLink(how.link);
  const size = launcherSize();
  if (size === undefined) return launchThreads(job, options, how);
  if (how.link !== undefined)
    throw new InputError(
      "A link model is for ranks as threads; between hosts the network has the rate it has: leave it out",
    );
  if (how.ranks !== undefined && how.ranks !== size)
    throw new InputError(
      `${how.ranks} ranks were asked for, but the launcher started ${size}; leave the number to the launcher`,
    );
  return launchMpi(job, options, how);
}

/** A rank imports the module of its job: a module that launches when it is imported would do so for ever. */
function refuseWithinRank({ module, name }: Job<never, unknown, never>): void {
  if ((workerData as Partial<WorkerData> | null)?.job !== undefined)
    throw new InputError(
      `A rank called launch while it imported or ran ${module}; put the call behind "if (isMainThread)" of node:worker_threads, or the job "${name}" in a module of its own`,
    );
}
