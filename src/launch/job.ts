/** Work that every rank of a launch does together, and what a rank is given for it. */
import type { Communicator } from "../comm/communicator.js";
import type { Inbox } from "./inbox.js";

/** For people: a line that stays, or one that takes the place of the progress line before it (empty: none is shown). */
export interface LineEvent {
  readonly kind: "message" | "progress";
  readonly line: string;
}

/** What a rank is given by whoever launched it. `E`: the events of the job's own, plain data. */
export interface JobContext<E = never> {
  /** All ranks of the launch. */
  readonly world: Communicator;
  /** Whether somebody has asked to stop (Ctrl-C, an `AbortSignal`): finish the step, save, return. */
  readonly interrupted: () => boolean;
  /** Notes the last step that this rank has completed, from 1: named when a rank is lost. */
  readonly completed: (step: number) => void;
  /** Tells whoever launched the job; heard from rank 0 only. */
  readonly emit: (event: LineEvent | E) => void;
  /** On rank 0, if the launch has an outbox: what is posted there. */
  readonly inbox?: Inbox | undefined;
  /** `emit` of a message. */
  readonly say: (line: string) => void;
  /** `emit` of a progress line. */
  readonly progress: (line: string) => void;
}

/**
 * Work for all ranks. A rank is a thread, or a process on another host, and functions do not travel there: the module's
 * address and the name of its export do.
 */
export interface Job<O, R, E = never> {
  /** Address of the module that exports the job. */
  readonly module: string;
  /** The name under which it does. */
  readonly name: string;
  run(context: JobContext<E>, options: O): R | Promise<R>;
}

/**
 * Defines a job: `export const sumJob = defineJob(import.meta.url, "sumJob", (context, options: SumOptions) => …)`.
 * Every rank imports the module: what else the module does when it is imported happens on every rank, too.
 * @param module `import.meta.url`
 * @param name of the export
 * @param run called on every rank with the same options; options, result and events are plain data (structured clone)
 */
export function defineJob<O, R, E = never>(
  module: string,
  name: string,
  run: (context: JobContext<E>, options: O) => R | Promise<R>,
): Job<O, R, E> {
  return { module, name, run };
}

/** How a launch ended. */
export interface Outcome<R> {
  /** What rank 0 returned; under an MPI launcher, what the rank of this process did. */
  readonly result: R;
  /** Whether the job had been asked to stop. */
  readonly interrupted: boolean;
}
