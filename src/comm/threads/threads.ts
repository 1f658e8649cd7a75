/** Ranks as threads of one process: a message is one copy from the sender's memory into the receiver's. */
import { nowMs } from "../../core/clock.js";
import { assert } from "../../core/errors.js";
import { addressOf } from "../../core/address.js";
import { type Communicator, type ExchangeRequest, type Pending, isPool, membersOf } from "../communicator.js";
import type { Link } from "../link.js";
import { copyOwnPart } from "../slots.js";
import { type Board, BoardView, FIELD, MAX_COMMUNICATORS, RING, WORD } from "./board.js";
import { type Place, movePair } from "./move.js";
import { ThreadsPending } from "./pending.js";

/** Rows worth waking a peer for, to copy them together. */
const SHARED_BYTES = 1 << 17;

/** State that the communicators of one rank share. */
export interface Seat {
  readonly view: BoardView;
  readonly rank: number;
  nextCommunicator: number;
  /** Exchanges not yet waited for, of all communicators: peers may still read and write their memory. */
  readonly open: Set<ThreadsPending>;
}

/** This thread's place at a board; call once per rank. */
export function joinThreads(board: Board, rank: number): Communicator {
  const seat = { view: new BoardView(board), rank, nextCommunicator: 1, open: new Set<ThreadsPending>() };
  return new ThreadsCommunicator(
    seat,
    0,
    Array.from({ length: board.size }, (_, r) => r),
  );
}

class ThreadsCommunicator implements Communicator {
  readonly kind = "threads";
  readonly rank: number;
  #sequence = 0;
  readonly #ring: (ThreadsPending | undefined)[] = [];

  constructor(
    readonly seat: Seat,
    readonly id: number,
    /** [size] ranks of the world that take part. */
    readonly members: readonly number[],
  ) {
    this.rank = members.indexOf(seat.rank);
  }

  get size(): number {
    return this.members.length;
  }

  get deadlineMs(): number {
    return this.seat.view.board.deadlineMs;
  }

  exchange(request: ExchangeRequest): Pending {
    const { view, rank } = this.seat;
    const sequence = this.#sequence++;
    const before = this.#ring[sequence % RING];
    assert(
      before === undefined || before.finished,
      `at most ${RING} exchanges are under way; ${before?.place.label} was never waited for`,
    );
    const place: Place = { view, id: this.id, sequence, rank, label: request.label };
    const startMs = nowMs();
    const [notesOut, notes] = this.#post(place, request);
    const others = Array.from(
      { length: this.size - 1 },
      (_, i) => this.members[(this.rank + 1 + i) % this.size],
    );
    const pending = new ThreadsPending(this.seat, place, {
      request,
      members: this.members,
      notesOut,
      notes,
      startMs,
    });
    this.#ring[sequence % RING] = pending;
    this.seat.open.add(pending);
    // Those who wait already take their share of copying large rows while this rank copies its own part. Then ranks
    // start with their next, not all with the same one.
    this.members.forEach((peer, p) => {
      if (peer !== rank && request.send.bytes[p] >= SHARED_BYTES) view.wakeRank(peer);
    });
    copyOwnPart(request, this.rank);
    for (const peer of others) movePair(place, peer);
    return pending;
  }

  /** Writes the request where peers see it. @returns the memory of the notes, out and in */
  #post({ view, sequence, label }: Place, request: ExchangeRequest): [Int32Array, Int32Array] {
    const { send, recv, notes } = request;
    const { fields } = view;
    const slot = view.slot(this.id, this.seat.rank, sequence);
    const perPeer = (notes?.length ?? 0) / this.size;
    const notesOut = sharedWords(notes?.length ?? 0);
    const notesIn = sharedWords(notes?.length ?? 0);
    if (notes !== undefined) {
      notesOut.set(notes);
      const own = notes.subarray(this.rank * perPeer, (this.rank + 1) * perPeer);
      notesIn.set(own, this.rank * perPeer);
    }
    view.setLabel(this.seat.rank, label);
    view.hashes[slot] = hash(label);
    const pool = isPool(recv);
    view.poolUsed[slot] = pool ? send.bytes[this.rank] / WORD : 0;
    view.poolRoom[slot] = pool ? Math.floor(recv.buffer.byteLength / WORD) : 0;
    const address = (array: ArrayBufferView): number => Number(addressOf(array));
    const [from, to] = [address(send.buffer), address(recv.buffer)];
    const [fromNotes, toNotes] = [address(notesOut), address(notesIn)];
    this.members.forEach((peer, p) => {
      const at = view.field(slot, peer, 0);
      fields[at + FIELD.sendAddress] = from + send.offsets[p];
      fields[at + FIELD.sendBytes] = send.bytes[p];
      fields[at + FIELD.recvAddress] = pool ? to : to + recv.offsets[p];
      fields[at + FIELD.recvBytes] = pool ? -1 : recv.bytes[p];
      fields[at + FIELD.sendNotes] = fromNotes + p * perPeer * WORD;
      fields[at + FIELD.recvNotes] = toNotes + p * perPeer * WORD;
      fields[at + FIELD.noteBytes] = perPeer * WORD;
    });
    Atomics.store(view.posted, slot, sequence + 1);
    return [notesOut, notesIn];
  }

  split(colorOf: (rank: number) => number): Communicator {
    const id = this.seat.nextCommunicator++;
    assert(id < MAX_COMMUNICATORS, `at most ${MAX_COMMUNICATORS} communicators`);
    const members = membersOf(this.size, this.rank, colorOf).map((r) => this.members[r]);
    return new ThreadsCommunicator(this.seat, id, members);
  }

  setLink(link: Link | undefined): void {
    this.seat.view.link = link;
  }

  abort(reason: string): void {
    this.seat.view.giveUp(reason);
    withdraw(this.seat);
  }

  close(): void {
    withdraw(this.seat);
  }
}

/** Before a rank lets go of memory that peers know by address. */
function withdraw(seat: Seat): void {
  for (const pending of seat.open) pending.withdraw();
  seat.open.clear();
}

const NO_WORDS = new Int32Array(new SharedArrayBuffer(WORD), 0, 0);

function sharedWords(length: number): Int32Array {
  if (length === 0) return NO_WORDS;
  return new Int32Array(new SharedArrayBuffer(length * WORD));
}

/** FNV-1a. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h | 0;
}
