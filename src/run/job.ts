import type { Communicator } from "../comm/communicator.js";

/** What a rank is given by whoever launched it. */
export interface JobContext {
  readonly world: Communicator;
  /** Whether the user has asked to stop (Ctrl-C): finish the step, save, return. */
  interrupted(): boolean;
  /** A line for the user on stderr; heard from rank 0 only. */
  say(line: string): void;
  /** Replaces the progress line; heard from rank 0 only. */
  progress(line: string): void;
}

/** Work that every rank of a launch does together. Options and the result are plain data. */
export type Job = (context: JobContext, options: never) => unknown;

/** What a launch is asked to do; plain data, so that it reaches a worker thread. */
export interface JobRequest {
  readonly job: string;
  readonly options: unknown;
}

export interface Outcome<R> {
  /** What rank 0 returned. */
  readonly result: R;
  readonly interrupted: boolean;
}
