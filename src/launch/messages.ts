/** What goes between a rank's thread and the thread that launched it; plain data. */
import type { Board } from "../comm/threads/board.js";
import { CommError, EnvironmentError, InputError, InterruptedError, exitCodeOf } from "../core/errors.js";
import type { ProcessIdentity } from "../storage/process-identity.js";
import type { InboxEnd } from "./inbox.js";

export interface WorkerData {
  /** Where the rank finds its job. */
  readonly job: { readonly module: string; readonly name: string };
  readonly options: unknown;
  readonly rank: number;
  /** Ranks as threads. */
  readonly board?: Board | undefined;
  /** A rank of an MPI job; `label` receives the operator it is in. */
  readonly mpi?: { readonly deadlineMs: number; readonly label: Uint8Array };
  /** Of rank 0. */
  readonly inbox?: InboxEnd | undefined;
  /** [1] 0, or 1 once somebody has asked to stop. */
  readonly stop: Int32Array;
  /** [1] the last step that this rank has completed. */
  readonly step: Int32Array;
}

export interface Failure {
  readonly kind: "error";
  readonly message: string;
  readonly exitCode?: number;
  readonly stack?: string;
  /** It is about these peers, so a peer's own error says more. */
  readonly peers?: readonly number[] | undefined;
}

export type FromWorker =
  | { readonly kind: "event"; readonly event: unknown }
  | { readonly kind: "result"; readonly value: unknown }
  /** Ranks of an MPI job: where each of them runs. */
  | { readonly kind: "ranks"; readonly ranks: readonly ProcessIdentity[] }
  | Failure;

export function failureOf(error: Error): Failure {
  const { message, stack } = error;
  return {
    kind: "error",
    message,
    exitCode: exitCodeOf(error),
    stack,
    peers: error instanceof CommError ? error.details.peers : undefined,
  };
}

/** @param rank named in the error, unless there is only one */
export function revive(failure: Failure, rank: number | undefined): Error {
  const text = rank === undefined ? failure.message : `rank ${rank}: ${failure.message}`;
  if (failure.exitCode === 2) return new InputError(text);
  if (failure.exitCode === 130) return new InterruptedError(failure.message);
  if (failure.exitCode === 1) return new EnvironmentError(text);
  const error = new Error(text);
  error.stack = failure.stack;
  return error;
}
