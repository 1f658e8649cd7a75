import type { Link } from "../comm/link.js";
import type { Outbox } from "./inbox.js";
import type { LineEvent } from "./job.js";

/** How a job is run. `E`: the events of the job's own. */
export interface LaunchOptions<E = never> {
  /** Ranks as threads of this process, from 1 to 64. Default 1; under an MPI launcher as many as it started. */
  readonly ranks?: number | undefined;
  /** Delays messages between threads as this link would. Default: as fast as memory. */
  readonly link?: Link | undefined;
  /** Longest wait for another rank, in milliseconds. Default 60 000. */
  readonly deadlineMs?: number | undefined;
  /** Asks the ranks to stop: the job finishes its step, saves and returns. */
  readonly signal?: AbortSignal | undefined;
  /** Hears what rank 0 emits. */
  readonly onEvent?: ((event: LineEvent | E) => void) | undefined;
  /** What is posted there reaches rank 0's inbox; closed when a rank fails. Under an MPI launcher rank 0's process has the line. */
  readonly outbox?: Outbox | undefined;
}

export const DEFAULT_DEADLINE_MS = 60_000;
