/** Ranks as threads of one process: a message is one copy from the sender's memory into the receiver's. */
import { nowMs } from "../../core/clock.js";
import { CommError, assert } from "../../core/errors.js";
import { addressOf, copyBytes } from "../../core/address.js";
import { gatherJson } from "../collectives.js";
import type { Communicator, ExchangeRequest, ExchangeResult, Pending } from "../communicator.js";
import type { Link } from "../link.js";
import { copyOwnPart } from "../single.js";
import { type Board, BoardView, FIELD, MAX_COMMUNICATORS, RING } from "./board.js";

/** State that the communicators of one rank share. */
interface Seat {
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
  readonly #open: (ThreadsPending | undefined)[] = [];

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
    const before = this.#open[sequence % RING];
    assert(before === undefined || before.finished, `at most ${RING} exchanges are under way`);
    const slot = view.slot(this.id, rank, sequence);
    const startMs = nowMs();
    view.setLabel(rank, request.label);
    view.hashes[slot] = hash(request.label);
    const [send, recv] = [Number(addressOf(request.send.buffer)), Number(addressOf(request.recv.buffer))];
    this.members.forEach((peer, p) => {
      view.fields[view.field(slot, peer, FIELD.sendAddress)] = send + request.send.offsets[p];
      view.fields[view.field(slot, peer, FIELD.sendBytes)] = request.send.bytes[p];
      view.fields[view.field(slot, peer, FIELD.recvAddress)] = recv + request.recv.offsets[p];
      view.fields[view.field(slot, peer, FIELD.recvBytes)] = request.recv.bytes[p];
    });
    Atomics.store(view.posted, slot, sequence + 1);
    copyOwnPart(request, this.rank);
    const pending = new ThreadsPending(this, request, { slot, sequence, startMs });
    this.#open[sequence % RING] = pending;
    this.seat.open.add(pending);
    // Start with the next rank, so that ranks do not all serve the same pair.
    for (let i = 1; i < this.size; i++)
      this.#servePair(this.members[(this.rank + i) % this.size], sequence, request.label);
    return pending;
  }

  /** Copies both directions if the peer has posted, too, and nobody has taken the pair. */
  #servePair(peer: number, sequence: number, label: string): void {
    const { view, rank } = this.seat;
    const mine = view.slot(this.id, rank, sequence);
    const theirs = view.slot(this.id, peer, sequence);
    if (Atomics.load(view.posted, theirs) !== sequence + 1) return;
    const claim = rank < peer ? mine * view.board.size + peer : theirs * view.board.size + rank;
    const was = Atomics.load(view.claims, claim);
    if (was === sequence + 1 || Atomics.compareExchange(view.claims, claim, was, sequence + 1) !== was)
      return;
    if (view.hashes[mine] !== view.hashes[theirs]) {
      view.giveUp(`Ranks ${rank} and ${peer} are in different operators: ${label} and ${view.label(peer)}`);
    }
    const moved =
      view.aborted === undefined &&
      this.#move(rank, mine, peer, theirs, label) &&
      this.#move(peer, theirs, rank, mine, label);
    // A negative number: taken and left alone, so that nobody waits for it and nobody reads it.
    const outcome = moved ? sequence + 1 : -(sequence + 1);
    Atomics.store(view.served, mine * view.board.size + peer, outcome);
    Atomics.store(view.served, theirs * view.board.size + rank, outcome);
    view.wakeRank(peer);
    view.wakeRank(rank);
  }

  #move(from: number, fromSlot: number, to: number, toSlot: number, label: string): boolean {
    const { view } = this.seat;
    const { fields } = view;
    const bytes = fields[view.field(fromSlot, to, FIELD.sendBytes)];
    const room = fields[view.field(toSlot, from, FIELD.recvBytes)];
    if (bytes > room) {
      view.giveUp(`${label}: rank ${from} sends ${bytes} bytes to rank ${to}, which expects at most ${room}`);
      return false;
    }
    const target = fields[view.field(toSlot, from, FIELD.recvAddress)];
    copyBytes(target, fields[view.field(fromSlot, to, FIELD.sendAddress)], bytes);
    fields[view.field(toSlot, from, FIELD.gotBytes)] = bytes;
    const now = nowMs();
    fields[view.field(toSlot, from, FIELD.readyMs)] = now;
    fields[view.field(toSlot, from, FIELD.arrivalMs)] = this.#arrival(from, to, bytes, now);
    return true;
  }

  /** Each port carries one message after another; a message arrives when both ports have carried it. */
  #arrival(from: number, to: number, bytes: number, now: number): number {
    const { view } = this.seat;
    const { link } = view;
    if (link === undefined || bytes === 0) return now;
    const duration = bytes / link.bytesPerMs;
    while (Atomics.compareExchange(view.lock, 0, 0, 1) !== 0);
    const sent = Math.max(now, view.ports[2 * from]) + duration;
    const received = Math.max(now, view.ports[2 * to + 1]) + duration;
    view.ports[2 * from] = sent;
    view.ports[2 * to + 1] = received;
    Atomics.store(view.lock, 0, 0);
    return Math.max(sent, received) + link.latencyMs;
  }

  split(color: number, label: string): Communicator {
    const id = this.seat.nextCommunicator++;
    assert(id < MAX_COMMUNICATORS, `at most ${MAX_COMMUNICATORS} communicators`);
    const colors = gatherJson(this, color, label);
    return new ThreadsCommunicator(
      this.seat,
      id,
      this.members.filter((_, r) => colors[r] === color),
    );
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

class ThreadsPending implements Pending {
  #result: ExchangeResult | undefined;

  constructor(
    readonly comm: ThreadsCommunicator,
    /** Held until everything has arrived: peers read and write its memory by address. */
    readonly request: ExchangeRequest,
    readonly at: { readonly slot: number; readonly sequence: number; readonly startMs: number },
  ) {}

  get finished(): boolean {
    return this.#result !== undefined;
  }

  get done(): boolean {
    return (
      this.#result !== undefined || (this.#missing().length === 0 && nowMs() >= this.#latest(FIELD.arrivalMs))
    );
  }

  wait(deadlineMs = this.comm.deadlineMs): ExchangeResult {
    if (this.#result !== undefined) return this.#result;
    const { view, rank } = this.comm.seat;
    const limit = nowMs() + deadlineMs;
    for (;;) {
      const seen = Atomics.load(view.wake, rank);
      const reason = view.aborted;
      if (reason !== undefined) throw this.#error(reason, []);
      const missing = this.#missing();
      if (missing.length === 0) break;
      const left = limit - nowMs();
      if (left <= 0) throw this.#late(missing, deadlineMs);
      Atomics.wait(view.wake, rank, seen, Math.min(left, 1000));
    }
    const arrival = this.#latest(FIELD.arrivalMs);
    sleepUntil(arrival);
    const bytes = this.comm.members.map((peer, p) =>
      peer === rank
        ? this.request.send.bytes[p]
        : view.fields[view.field(this.at.slot, peer, FIELD.gotBytes)],
    );
    const startMs = Math.max(this.at.startMs, this.#latest(FIELD.readyMs));
    this.comm.seat.open.delete(this);
    return (this.#result = { bytes, startMs, endMs: Math.max(arrival, startMs) });
  }

  #missing(): number[] {
    const { view, rank } = this.comm.seat;
    const { slot, sequence } = this.at;
    return this.comm.members.filter(
      (peer) => peer !== rank && Atomics.load(view.served, slot * view.board.size + peer) !== sequence + 1,
    );
  }

  #latest(field: number): number {
    const { view, rank } = this.comm.seat;
    let latest = 0;
    for (const peer of this.comm.members)
      if (peer !== rank) latest = Math.max(latest, view.fields[view.field(this.at.slot, peer, field)]);
    return latest;
  }

  #late(missing: readonly number[], deadlineMs: number): CommError {
    const { view } = this.comm.seat;
    const last = missing
      .map((peer) => `rank ${peer} (last seen in ${view.label(peer) || "start-up"})`)
      .join(", ");
    const error = this.#error(`no answer from ${last} within ${deadlineMs / 1e3} s`, missing);
    view.giveUp(
      `rank ${this.comm.seat.rank}, in ${this.request.label}, had ${error.message.split(": ").slice(1).join(": ")}`,
    );
    return error;
  }

  /** Takes every pair that no peer has taken, and lets the peers finish that are copying. */
  withdraw(): void {
    const { view, rank } = this.comm.seat;
    const { slot, sequence } = this.at;
    const { size } = view.board;
    for (const peer of this.comm.members) {
      if (peer === rank) continue;
      const theirs = view.slot(this.comm.id, peer, sequence);
      const claim = rank < peer ? slot * size + peer : theirs * size + rank;
      const was = Atomics.load(view.claims, claim);
      const outcome = -(sequence + 1);
      if (was <= sequence && Atomics.compareExchange(view.claims, claim, was, sequence + 1) === was) {
        Atomics.store(view.served, slot * size + peer, outcome);
        Atomics.store(view.served, theirs * size + rank, outcome);
      }
      while (Math.abs(Atomics.load(view.served, slot * size + peer)) <= sequence)
        Atomics.wait(pillow, 0, 0, 0.1);
    }
  }

  #error(reason: string, peers: readonly number[]): CommError {
    withdraw(this.comm.seat);
    const operator = this.request.label;
    return new CommError(`${operator}: ${reason}`, { rank: this.comm.seat.rank, peers, operator });
  }
}

/** Before a rank lets go of memory that peers know by address. */
function withdraw(seat: Seat): void {
  for (const pending of seat.open) pending.withdraw();
  seat.open.clear();
}

const pillow = new Int32Array(new SharedArrayBuffer(4));

/** Sleeps without using the processor; the last tenth of a millisecond is watched, since timers are late. */
function sleepUntil(timeMs: number): void {
  for (;;) {
    const left = timeMs - nowMs();
    if (left <= 0) return;
    if (left > 0.15) Atomics.wait(pillow, 0, 0, left - 0.1);
  }
}

/** FNV-1a. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h | 0;
}
