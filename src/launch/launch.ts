import type { JobRequest, Outcome } from "../run/job.js";
import { type LaunchOptions, launchThreads } from "./threads.js";

/** Runs a job on the ranks asked for: threads of this process. */
export function launch<R>(request: JobRequest, options: LaunchOptions): Promise<Outcome<R>> {
  return launchThreads<R>(request, options);
}
