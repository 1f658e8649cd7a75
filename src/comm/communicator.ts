import type { Link } from "./link.js";

/**
 * Collectives among ranks. One primitive, the ragged all-to-all `exchange`, is implemented per transport
 * (threads, MPI, null); everything else (`collectives.ts`) is built on it, so that sums are added in rank order and
 * every transport gives the same bits.
 *
 * Rules: all ranks issue the same exchanges in the same order; buffers stay untouched until the handle's `wait`
 * returns; a handle must be waited for exactly once.
 */
export interface Communicator {
  readonly kind: "single" | "threads" | "mpi" | "null";
  readonly rank: number;
  readonly size: number;
  /** Starts a ragged all-to-all and returns at once. Transfers progress while the caller computes. */
  exchange(request: ExchangeRequest): Pending;
  /** Sub-communicator of the ranks that gave the same colour, ordered by their rank here. Collective. */
  split(color: number, label: string): Communicator;
  /** Deadline of every wait, in milliseconds. */
  readonly deadlineMs: number;
  /** Tells the other ranks that this one gives up, so that their waits end with `reason`. Idempotent. */
  abort(reason: string): void;
  close(): void;
  /** Threads only: changes the link model of all ranks. Call on one rank, between two barriers. */
  setLink?(link: Link | undefined): void;
}

export interface ExchangeRequest {
  /** The operator, e.g. "L3.dispatch"; named in errors and recorded by the null communicator. */
  readonly label: string;
  readonly send: Slots;
  /** `bytes` are the largest sizes acceptable; `Pending.wait` reports the actual ones. */
  readonly recv: Slots;
}

/** One region per peer inside one buffer. Regions may be ragged and may have zero bytes. */
export interface Slots {
  /** View over shared memory (SharedArrayBuffer-backed, e.g. from an Arena). */
  readonly buffer: Uint8Array;
  /** [size] byte offset of each peer's region, relative to `buffer`; a multiple of 4. */
  readonly offsets: readonly number[];
  /** [size] bytes of each peer's region. */
  readonly bytes: readonly number[];
}

export interface ExchangeResult {
  /** [size] bytes received from each peer. */
  readonly bytes: readonly number[];
  /** CLOCK_MONOTONIC milliseconds: when the last of those involved had posted it, and when its last byte was delivered here. */
  readonly startMs: number;
  readonly endMs: number;
}

export interface Pending {
  readonly done: boolean;
  /**
   * Blocks this thread until everything has been received and the send buffer may be reused.
   * @throws CommError naming the late or lost ranks and the operator, after the deadline or an abort
   */
  wait(deadlineMs?: number): ExchangeResult;
}
