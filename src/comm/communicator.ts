import type { Link } from "./link.js";

/**
 * Collectives among ranks. One primitive, the ragged all-to-all `exchange`, is implemented per transport
 * (single, threads, MPI, null); everything else (`collectives.ts`) is built on it, so that sums are added in rank order
 * and every transport gives the same bits.
 *
 * Rules: in each communicator all ranks issue the same exchanges in the same order, and wait for them in that order;
 * buffers stay untouched until the handle's `wait` returns. Any number of exchanges may be under way.
 */
export interface Communicator {
  readonly kind: "single" | "threads" | "mpi" | "null";
  readonly rank: number;
  readonly size: number;
  /** Starts a ragged all-to-all and returns at once. Transfers progress while the caller computes. */
  exchange(request: ExchangeRequest): Handle<ExchangeResult>;
  /**
   * Sub-communicator of the ranks with this rank's colour, ordered by their rank here. Every rank computes every rank's
   * colour, so no message is needed; all ranks split in the same order.
   */
  split(colorOf: (rank: number) => number): Communicator;
  /** Deadline of every wait, in milliseconds. */
  readonly deadlineMs: number;
  /** Tells the other ranks that this one gives up, so that their waits end with `reason`. Idempotent. */
  abort(reason: string): void;
  close(): void;
  /** Threads only: changes the link model of all ranks. Call on one rank, between two barriers. */
  setLink?(link: Link | undefined): void;
}

/** One ragged all-to-all: what this rank sends to each peer, and where it puts what it receives. */
export interface ExchangeRequest {
  /** The operator, e.g. "L3.dispatch"; named in errors and recorded by the null communicator. */
  readonly label: string;
  readonly send: Slots;
  /** Regions of known places, whose sizes are the largest acceptable; or a pool for regions of unknown sizes. */
  readonly recv: Slots | Pool;
  /**
   * [size · n] a few numbers for each peer, which travel ahead of the rows, as the sizes do; n is the same on all ranks.
   */
  readonly notes?: Int32Array;
}

/** One region per peer inside one buffer. Regions may be ragged and may have zero bytes. */
export interface Slots {
  /** View over shared memory (SharedArrayBuffer-backed, e.g. from an Arena). */
  readonly buffer: Uint8Array;
  /** [size] byte offset of each peer's region, relative to `buffer`; a multiple of 4. */
  readonly offsets: readonly number[];
  /** [size] bytes of each peer's region; a multiple of 4. */
  readonly bytes: readonly number[];
}

/**
 * Room for regions whose sizes only their senders know: they are laid one after another in the order in which their
 * sizes become known, so that memory is needed for what arrives and not for the most that could.
 */
export interface Pool {
  /** Holds at least the own part. What fits is received while the caller computes. */
  readonly buffer: Uint8Array;
  /**
   * Called once, in `done` or `wait` of this exchange or any call for another, when more arrives than fits: returns memory of at least `bytes`, where all regions
   * will be. The old buffer stays in use until `wait` returns.
   */
  grow(bytes: number): Uint8Array;
}

export function isPool(recv: Slots | Pool): recv is Pool {
  return "grow" in recv;
}

/** What a ragged all-to-all brought. */
export interface ExchangeResult {
  /** [size] bytes received from each peer, and where they begin in the buffer given (the grown one, if a pool grew). */
  readonly bytes: readonly number[];
  readonly offsets: readonly number[];
  /** [size · n] what each peer noted for this rank. */
  readonly notes: Int32Array;
  /** CLOCK_MONOTONIC milliseconds: when the last of those involved had posted it, and when its last byte was delivered here. */
  readonly startMs: number;
  readonly endMs: number;
}

/** Something under way between ranks. */
export interface Handle<T> {
  /**
   * Whether `wait` would return or throw at once. Asking brings the transfer on: who asks again and again need not wait.
   */
  readonly done: boolean;
  /**
   * Blocks this thread until everything has been received and the send buffer may be reused. A second call returns the
   * same result. The deadline counts from `sinceMs` (on the machine's clock; default: now).
   * @throws CommError naming the late or lost ranks and the operator, after the deadline or an abort
   */
  wait(deadlineMs?: number, sinceMs?: number): T;
}

/** A ragged all-to-all under way. */
export type Pending = Handle<ExchangeResult>;

/** Colours of all ranks → the members of `rank`'s group, in order. */
export function membersOf(size: number, rank: number, colorOf: (rank: number) => number): number[] {
  const color = colorOf(rank);
  return Array.from({ length: size }, (_, r) => r).filter((r) => colorOf(r) === color);
}
