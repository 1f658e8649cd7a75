/** An exchange under way at a board, as the rank sees it that started it. */
import { addressOf, copyBytes } from "../../core/address.js";
import { nowMs } from "../../core/clock.js";
import { CommError } from "../../core/errors.js";
import { type ExchangeRequest, type ExchangeResult, type Pending, isPool } from "../communicator.js";
import { copyOwnPart } from "../slots.js";
import { type Place, deliverParked, messageIndex, movePair, sleepUntil, withdrawMessage } from "./move.js";
import { showRequest } from "./request.js";
import { FIELD, WORD } from "./ring.js";
import type { Posting, Seat } from "./seat.js";

/** Rows worth waking a peer for, to copy them together. */
const SHARED_BYTES = 1 << 17;

export interface Started {
  /** Held until everything has arrived: peers read and write its memory by address. */
  readonly request: ExchangeRequest;
  /** [size] ranks of the world that take part. */
  readonly members: readonly number[];
  /** The same without this rank, the next one first, so that ranks do not all begin with the same one. */
  readonly others: readonly number[];
  readonly notesOut: Int32Array;
  readonly notesIn: Int32Array;
  readonly startMs: number;
}

export class ThreadsPending implements Pending, Posting {
  #isPosted = false;
  /** The exchange whose place in the ring this one takes over. */
  #before: ThreadsPending | undefined;
  /** Peers whose message has not come, or who have not got ours. */
  #missing: readonly number[];
  /** Known when everything has been moved: the link may deliver it later. */
  #moved: ExchangeResult | undefined;
  #result: ExchangeResult | undefined;
  /** What a pool grew into, held like the request. */
  #memory: Uint8Array | undefined;

  constructor(
    readonly seat: Seat,
    readonly place: Place,
    readonly started: Started,
    before: ThreadsPending | undefined,
  ) {
    this.#before = before;
    this.#missing = started.others;
  }

  tend(): boolean {
    if (!this.post()) return false;
    return !isPool(this.started.request.recv) || this.#memory !== undefined || this.#move() !== undefined;
  }

  /** Shows the exchange to its peers as soon as its place in the ring is free. */
  post(): boolean {
    if (this.#isPosted) return true;
    if (this.#before !== undefined && this.#before.#move() === undefined) return false;
    this.#before = undefined;
    this.#isPosted = true;
    const { started, place } = this;
    const { request, members, others } = started;
    showRequest(place, started);
    // Those who wait already take their share of copying large rows while this rank copies its own part.
    members.forEach((peer, p) => {
      if (peer !== place.rank && request.send.bytes[p] >= SHARED_BYTES) place.view.wakeRank(peer);
    });
    copyOwnPart(request, members.indexOf(place.rank));
    for (const peer of others) movePair(place, peer);
    return true;
  }

  get done(): boolean {
    if (this.#result !== undefined || this.place.view.isAborted) return true;
    this.seat.tend();
    const moved = this.#move();
    return moved !== undefined && nowMs() >= moved.endMs;
  }

  wait(deadlineMs = this.place.view.board.deadlineMs, sinceMs = nowMs()): ExchangeResult {
    if (this.#result !== undefined) return this.#result;
    const { seat, place } = this;
    const { view, rank } = place;
    let moved: ExchangeResult | undefined;
    for (;;) {
      const seen = Atomics.load(view.wake, rank);
      const reason = view.aborted;
      if (reason !== undefined) throw this.#error(reason, []);
      seat.tend();
      moved = this.#move();
      if (moved !== undefined) break;
      const left = sinceMs + deadlineMs - nowMs();
      if (left <= 0) throw this.#late(deadlineMs);
      Atomics.wait(view.wake, rank, seen, Math.min(left, 1000));
    }
    sleepUntil(moved.endMs);
    seat.open.delete(this);
    return (this.#result = moved);
  }

  /** Moves what can be moved. @returns the result once nothing is left, so that the place in the ring is free */
  #move(): ExchangeResult | undefined {
    if (this.#moved !== undefined || !this.#isPosted) return this.#moved;
    if (!this.#isAllMoved()) {
      for (const peer of this.#missing) movePair(this.place, peer);
      this.#makeRoom();
      if (!this.#isAllMoved()) return undefined;
    }
    const startMs = Math.max(this.started.startMs, this.#latest(FIELD.readyMs));
    const endMs = Math.max(startMs, this.#latest(FIELD.arrivalMs));
    return (this.#moved = { ...this.#regions(), startMs, endMs });
  }

  /** Whether both messages have been moved with every peer. */
  #isAllMoved(): boolean {
    const { ring, sequence, rank } = this.place;
    const isMoved = (from: number, to: number): boolean =>
      Atomics.load(ring.moved, messageIndex(this.place, from, to)) === sequence + 1;
    const isMissing = (peer: number): boolean => !(isMoved(peer, rank) && isMoved(rank, peer));
    if (this.#missing.length > 0) this.#missing = this.#missing.filter(isMissing);
    return this.#missing.length === 0;
  }

  #regions(): Pick<ExchangeResult, "bytes" | "offsets" | "notes"> {
    const { request, members, notesIn } = this.started;
    const { send, recv } = request;
    const { rank } = this.place;
    const offsets = isPool(recv)
      ? members.map((peer) => (peer === rank ? 0 : this.#field(peer, FIELD.gotOffset)))
      : recv.offsets;
    const bytes = members.map((peer, p) =>
      peer === rank ? send.bytes[p] : this.#field(peer, FIELD.gotBytes),
    );
    return { bytes, offsets, notes: notesIn };
  }

  /** When all sizes are known and some messages are parked, takes memory for all of them and moves them there. */
  #makeRoom(): void {
    const { ring, sequence, rank } = this.place;
    const { request, members, others } = this.started;
    const { recv, send } = request;
    if (this.#memory !== undefined || !isPool(recv)) return;
    const state = others.map((peer) => {
      const index = messageIndex(this.place, peer, rank);
      if (Atomics.load(ring.claims, index) === -(sequence + 1)) return "parked";
      return Atomics.load(ring.moved, index) === sequence + 1 ? "moved" : "open";
    });
    if (state.includes("open") || !state.includes("parked")) return;
    const memory = recv.grow(ring.poolUsed[ring.slot(rank, sequence)] * WORD);
    this.#memory = memory;
    const [from, to] = [Number(addressOf(recv.buffer)), Number(addressOf(memory))];
    copyBytes(to, from, send.bytes[members.indexOf(rank)]);
    others.forEach((peer, i) => {
      const offset = this.#field(peer, FIELD.gotOffset);
      if (state[i] === "moved") copyBytes(to + offset, from + offset, this.#field(peer, FIELD.gotBytes));
      else deliverParked(this.place, peer, to);
    });
  }

  #field(peer: number, field: number): number {
    const { ring, sequence, rank } = this.place;
    return ring.fields[ring.field(ring.slot(rank, sequence), peer, field)];
  }

  #latest(field: number): number {
    let latest = 0;
    for (const peer of this.started.others) latest = Math.max(latest, this.#field(peer, field));
    return latest;
  }

  withdraw(): void {
    const { rank } = this.place;
    // Nobody knows of one that has not been posted, and now nobody will.
    if (!this.#isPosted) return;
    for (const peer of this.started.others) {
      withdrawMessage(this.place, rank, peer);
      withdrawMessage(this.place, peer, rank);
    }
  }

  #late(deadlineMs: number): CommError {
    const { view, rank, label } = this.place;
    const missing = this.#missing;
    const last = missing
      .map((peer) => `rank ${peer} (last seen in ${view.label(peer) || "start-up"})`)
      .join(", ");
    const reason = `no answer from ${last} within ${deadlineMs / 1e3} s`;
    const error = this.#error(reason, missing);
    view.giveUp(`rank ${rank}, in ${label}, had ${reason}`);
    return error;
  }

  #error(reason: string, peers: readonly number[]): CommError {
    this.seat.withdraw();
    const { rank, label } = this.place;
    return new CommError(`${label}: ${reason}`, { rank, peers, operator: label });
  }
}
