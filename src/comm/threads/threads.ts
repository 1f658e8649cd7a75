/** Ranks as threads of one process: a message is one copy from the sender's memory into the receiver's. */
import { nowMs } from "../../core/clock.js";
import { type Communicator, type ExchangeRequest, type Pending, isPool, membersOf } from "../communicator.js";
import type { Link } from "../link.js";
import { type Board, BoardView } from "./board.js";
import { ThreadsPending } from "./pending.js";
import { RING, type Ring, WORD } from "./ring.js";
import { Seat } from "./seat.js";

/** This thread's place at a board; call once per rank. */
export function joinThreads(board: Board, rank: number): Communicator {
  const members = Array.from({ length: board.size }, (_, r) => r);
  return new ThreadsCommunicator(new Seat(new BoardView(board), rank), 0, members);
}

class ThreadsCommunicator implements Communicator {
  readonly kind = "threads";
  readonly rank: number;
  readonly #others: readonly number[];
  readonly #ring: Ring;
  #sequence = 0;
  /** The youngest exchange at each place of the ring, in line or posted. */
  readonly #youngest: (ThreadsPending | undefined)[] = [];

  constructor(
    readonly seat: Seat,
    id: number,
    /** [size] ranks of the world that take part. */
    readonly members: readonly number[],
  ) {
    this.rank = members.indexOf(seat.rank);
    this.#others = Array.from({ length: this.size - 1 }, (_, i) => members[(this.rank + 1 + i) % this.size]);
    this.#ring = seat.view.ring(id);
  }

  get size(): number {
    return this.members.length;
  }

  get deadlineMs(): number {
    return this.seat.view.board.deadlineMs;
  }

  exchange(request: ExchangeRequest): Pending {
    const { seat, members } = this;
    const { view, rank } = seat;
    const { label } = request;
    const sequence = this.#sequence++;
    const place = { view, ring: this.#ring, sequence, rank, label };
    const [notesOut, notesIn] = this.#notes(request);
    const started = { request, members, others: this.#others, notesOut, notesIn, startMs: nowMs() };
    const pending = new ThreadsPending(seat, place, started, this.#youngest[sequence % RING]);
    this.#youngest[sequence % RING] = pending;
    view.setLabel(rank, label);
    seat.open.add(pending);
    seat.tend();
    if (!pending.post() || isPool(request.recv)) seat.tended.add(pending);
    return pending;
  }

  /** Memory of the notes, out and in: the caller may write on its own once the exchange has been started. */
  #notes({ notes }: ExchangeRequest): [Int32Array, Int32Array] {
    if (notes === undefined || notes.length === 0) return [NO_WORDS, NO_WORDS];
    const [out, into] = [sharedWords(notes.length), sharedWords(notes.length)];
    const perPeer = notes.length / this.size;
    out.set(notes);
    into.set(notes.subarray(this.rank * perPeer, (this.rank + 1) * perPeer), this.rank * perPeer);
    return [out, into];
  }

  split(colorOf: (rank: number) => number): Communicator {
    const members = membersOf(this.size, this.rank, colorOf).map((r) => this.members[r]);
    return new ThreadsCommunicator(this.seat, this.seat.nextCommunicator++, members);
  }

  setLink(link: Link | undefined): void {
    this.seat.view.link = link;
  }

  abort(reason: string): void {
    this.seat.view.giveUp(reason);
    this.seat.withdraw();
  }

  close(): void {
    this.seat.withdraw();
  }
}

function sharedWords(length: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(length * WORD));
}

const NO_WORDS = sharedWords(1).subarray(0, 0);
