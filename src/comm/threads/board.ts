/**
 * The memory that ranks of one process share: what each has posted, and what has arrived. Postings are kept in a ring per
 * rank and communicator; a message is moved by whichever of its
 * two ranks gets to it first once both have posted, so nobody waits for a third party.
 */
import type { Link } from "../link.js";

/** Exchanges a rank may have under way in one communicator. */
export const RING = 32;
/** World and the communicators split from it. */
export const MAX_COMMUNICATORS = 16;
export const LABEL_BYTES = 64;

/** Fields of a posting towards one peer, as f64: addresses are below 2^53. */
export const FIELD = {
  sendAddress: 0,
  sendBytes: 1,
  /** In a pool: of the pool. */
  recvAddress: 2,
  /** Room for this peer; −1 in a pool. */
  recvBytes: 3,
  sendNotes: 4,
  recvNotes: 5,
  noteBytes: 6,
  /** What has arrived from this peer, and where relative to `recvAddress` (of a pool). */
  gotBytes: 7,
  gotOffset: 8,
  /** When both sides had posted, and when the link delivers. */
  readyMs: 9,
  arrivalMs: 10,
} as const;
const FIELDS = 11;
/** Pools are counted in words, so that 32 bits reach 8 GiB. */
export const WORD = 4;

export interface Board {
  readonly size: number;
  readonly deadlineMs: number;
  readonly buffer: SharedArrayBuffer;
}

interface Layout {
  readonly abort: number;
  readonly wake: number;
  readonly lock: number;
  readonly posted: number;
  readonly claims: number;
  readonly moved: number;
  readonly poolUsed: number;
  readonly poolRoom: number;
  readonly hashes: number;
  readonly labels: number;
  readonly reason: number;
  readonly ports: number;
  readonly link: number;
  readonly fields: number;
  readonly total: number;
}

const REASON_BYTES = 1024;

function layout(size: number): Layout {
  const slots = MAX_COMMUNICATORS * size * RING;
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
    posted: take(4 * slots),
    claims: take(4 * slots * size),
    moved: take(4 * slots * size),
    poolUsed: take(4 * slots),
    poolRoom: take(4 * slots),
    hashes: take(4 * slots),
    labels: take(LABEL_BYTES * size),
    reason: take(REASON_BYTES),
    ports: take(16 * size),
    link: take(16),
    fields: take(8 * FIELDS * slots * size),
    total: at,
  };
}

export function createBoard(options: { size: number; link?: Link; deadlineMs: number }): Board {
  const { size, deadlineMs, link } = options;
  const board = { size, deadlineMs, buffer: new SharedArrayBuffer(layout(size).total) };
  new BoardView(board).link = link;
  return board;
}

/** Typed views of a board. Indices: `slot(communicator, rank, sequence)`, and slot · size + peer for pairs. */
export class BoardView {
  readonly abort: Int32Array;
  /** [size] counters that ranks sleep on. */
  readonly wake: Int32Array;
  readonly lock: Int32Array;
  /** [slots] sequence number + 1 of the posting. */
  readonly posted: Int32Array;
  /**
   * [slots · size] of the message from a peer into a slot: sequence number + 1 once somebody has taken it on, and once it
   * has been moved. Negative claim: parked until its pool has room. Negative move: given up.
   */
  readonly claims: Int32Array;
  readonly moved: Int32Array;
  /** [slots] words of a slot's pool that are dealt out, and that it has; may exceed what it has. */
  readonly poolUsed: Int32Array;
  readonly poolRoom: Int32Array;
  readonly hashes: Int32Array;
  /** [size · 2] milliseconds until which a port sends, and receives. */
  readonly ports: Float64Array;
  readonly fields: Float64Array;
  /** Bytes per millisecond (0: no link model) and latency in milliseconds. */
  readonly #link: Float64Array;
  readonly #labels: Uint8Array;
  readonly #reason: Uint8Array;

  constructor(readonly board: Board) {
    const { buffer, size } = board;
    const at = layout(size);
    const slots = MAX_COMMUNICATORS * size * RING;
    this.abort = new Int32Array(buffer, at.abort, 1);
    this.wake = new Int32Array(buffer, at.wake, size);
    this.lock = new Int32Array(buffer, at.lock, 1);
    this.posted = new Int32Array(buffer, at.posted, slots);
    this.claims = new Int32Array(buffer, at.claims, slots * size);
    this.moved = new Int32Array(buffer, at.moved, slots * size);
    this.poolUsed = new Int32Array(buffer, at.poolUsed, slots);
    this.poolRoom = new Int32Array(buffer, at.poolRoom, slots);
    this.hashes = new Int32Array(buffer, at.hashes, slots);
    this.ports = new Float64Array(buffer, at.ports, 2 * size);
    this.fields = new Float64Array(buffer, at.fields, FIELDS * slots * size);
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

  slot(communicator: number, rank: number, sequence: number): number {
    return (communicator * this.board.size + rank) * RING + (sequence % RING);
  }

  field(slot: number, peer: number, field: number): number {
    return (slot * this.board.size + peer) * FIELDS + field;
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
    if (Atomics.compareExchange(this.abort, 0, 0, 1) === 0) {
      writeText(this.#reason, reason);
      Atomics.store(this.abort, 0, 2);
    }
    for (let rank = 0; rank < this.board.size; rank++) this.wakeRank(rank);
  }

  /** Why somebody gave up, if anybody did. */
  get aborted(): string | undefined {
    if (Atomics.load(this.abort, 0) === 0) return undefined;
    return Atomics.load(this.abort, 0) === 2 ? readText(this.#reason) : "a rank gave up";
  }
}

function writeText(bytes: Uint8Array, text: string): void {
  const encoded = new TextEncoder().encode(text).subarray(0, bytes.length);
  bytes.fill(0);
  bytes.set(encoded);
}

function readText(bytes: Uint8Array): string {
  const copy = Uint8Array.from(bytes);
  const end = copy.indexOf(0);
  return new TextDecoder().decode(copy.subarray(0, end < 0 ? copy.length : end));
}
