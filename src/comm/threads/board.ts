/**
 * The memory that ranks of one process share. At its beginning is what concerns them all: who gave up, whom to wake,
 * the ports of the link model. A ring of postings for each communicator follows: what every rank has posted (addresses,
 * sizes) and what has arrived. Once both ranks of a message have posted, whichever looks first copies it; no third
 * thread takes part.
 */
import { InputError } from "../../core/errors.js";
import type { Link } from "../link.js";
import { Ring, ringBytes } from "./ring.js";

/**
 * The board grows with every communicator, up to what was reserved: addresses, not memory. No configuration needs more
 * than two communicators per model it runs.
 */
const MAX_COMMUNICATORS = 1024;
/** The most that V8 lets a buffer grow to. */
const MAX_BOARD_BYTES = 2 ** 32;
export const LABEL_BYTES = 64;
/** States of giving up: the reason is being written, and can be read. A writer takes far less than a second. */
const [BEGUN, WRITTEN] = [1, 2];
const REASON_MS = 1000;

export interface Board {
  readonly size: number;
  readonly deadlineMs: number;
  readonly buffer: SharedArrayBuffer;
}

const REASON_BYTES = 1024;

/** Offsets of what lies before the rings. */
function layout(size: number) {
  let at = 0;
  const take = (bytes: number): number => {
    const start = at;
    at += Math.ceil(bytes / 64) * 64;
    return start;
  };
  return {
    abort: take(4),
    wake: take(4 * size),
    lock: take(4),
    labels: take(LABEL_BYTES * size),
    reason: take(REASON_BYTES),
    ports: take(16 * size),
    link: take(16),
    rings: at,
  };
}

export function createBoard(options: { size: number; link?: Link; deadlineMs: number }): Board {
  const { size, deadlineMs, link } = options;
  const { rings } = layout(size);
  const reserved = Math.min(rings + MAX_COMMUNICATORS * ringBytes(size), MAX_BOARD_BYTES);
  const buffer = new SharedArrayBuffer(rings, { maxByteLength: reserved });
  const board = { size, deadlineMs, buffer };
  new BoardView(board).link = link;
  return board;
}

/** Typed views of a board. */
export class BoardView {
  readonly abort: Int32Array;
  /** [size] counters that ranks sleep on. */
  readonly wake: Int32Array;
  readonly lock: Int32Array;
  /** [size · 2] milliseconds until which a port sends, and receives. */
  readonly ports: Float64Array;
  /** Bytes per millisecond (0: no link model) and latency in milliseconds. */
  readonly #link: Float64Array;
  readonly #labels: Uint8Array;
  readonly #reason: Uint8Array;

  constructor(readonly board: Board) {
    const { buffer, size } = board;
    const at = layout(size);
    this.abort = new Int32Array(buffer, at.abort, 1);
    this.wake = new Int32Array(buffer, at.wake, size);
    this.lock = new Int32Array(buffer, at.lock, 1);
    this.ports = new Float64Array(buffer, at.ports, 2 * size);
    this.#link = new Float64Array(buffer, at.link, 2);
    this.#labels = new Uint8Array(buffer, at.labels, LABEL_BYTES * size);
    this.#reason = new Uint8Array(buffer, at.reason, REASON_BYTES);
  }

  get link(): Link | undefined {
    const [bytesPerMs, latencyMs] = this.#link;
    return bytesPerMs === 0 ? undefined : { bytesPerMs, latencyMs };
  }

  set link(link: Link | undefined) {
    this.#link.set(link === undefined ? [0, 0] : [link.bytesPerMs, link.latencyMs]);
  }

  /** Ring of a communicator, which is its place after the others' on every rank. */
  ring(communicator: number): Ring {
    const { buffer, size } = this.board;
    const bytes = ringBytes(size);
    const start = layout(size).rings + communicator * bytes;
    if (start + bytes > buffer.maxByteLength)
      throw new InputError(
        `This job has split its ${size} ranks into groups ${communicator - 1} times, and there is no memory for more; split once and keep the groups`,
      );
    growTo(buffer, start + bytes);
    return new Ring(buffer, start, size);
  }

  wakeRank(rank: number): void {
    Atomics.add(this.wake, rank, 1);
    Atomics.notify(this.wake, rank);
  }

  setLabel(rank: number, label: string): void {
    writeText(this.#labels.subarray(rank * LABEL_BYTES, (rank + 1) * LABEL_BYTES), label);
  }

  label(rank: number): string {
    return readText(this.#labels.subarray(rank * LABEL_BYTES, (rank + 1) * LABEL_BYTES));
  }

  /** The first reason stays. */
  giveUp(reason: string): void {
    if (Atomics.compareExchange(this.abort, 0, 0, BEGUN) === 0) {
      writeText(this.#reason, reason);
      Atomics.store(this.abort, 0, WRITTEN);
      Atomics.notify(this.abort, 0);
    }
    for (let rank = 0; rank < this.board.size; rank++) this.wakeRank(rank);
  }

  get isAborted(): boolean {
    return Atomics.load(this.abort, 0) !== 0;
  }

  /** Why somebody gave up, if anybody did. */
  get aborted(): string | undefined {
    if (!this.isAborted) return undefined;
    // Who is a moment later must not miss the reason.
    Atomics.wait(this.abort, 0, BEGUN, REASON_MS);
    return Atomics.load(this.abort, 0) === WRITTEN ? readText(this.#reason) : "a rank gave up";
  }
}

/** Several ranks may grow it at once: one that comes too late finds it larger. */
function growTo(buffer: SharedArrayBuffer, bytes: number): void {
  while (buffer.byteLength < bytes) {
    try {
      buffer.grow(bytes);
    } catch (error) {
      if (buffer.byteLength < bytes) throw error;
    }
  }
}

/** Cut off where there is no more room. */
export function writeText(bytes: Uint8Array, text: string): void {
  const encoded = new TextEncoder().encode(text).subarray(0, bytes.length);
  bytes.fill(0);
  bytes.set(encoded);
}

export function readText(bytes: Uint8Array): string {
  const copy = Uint8Array.from(bytes);
  const end = copy.indexOf(0);
  return new TextDecoder().decode(copy.subarray(0, end < 0 ? copy.length : end));
}
