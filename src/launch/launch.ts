import { launcherSize } from "../comm/mpi/library.js";
import { InputError } from "../core/errors.js";
import type { JobRequest, Outcome } from "../run/job.js";
import { launchMpi } from "./mpi.js";
import { type LaunchOptions, launchThreads } from "./threads.js";

/** Runs a job: under an MPI launcher as one of its ranks, otherwise on threads of this process. */
export function launch<R>(request: JobRequest, options: LaunchOptions): Promise<Outcome<R>> {
  const size = launcherSize();
  if (size === undefined) return launchThreads<R>(request, options);
  if (options.link !== undefined)
    throw new InputError(
      "A link model is for ranks as threads; between hosts the network has the rate it has",
    );
  if (options.ranks !== undefined && options.ranks !== size)
    throw new InputError(
      `${options.ranks} ranks were asked for, but the launcher started ${size}; leave the number of ranks to the launcher`,
    );
  return launchMpi<R>(request, options);
}
