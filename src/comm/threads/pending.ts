/** An exchange under way at a board, as the rank sees it that started it. */
import { addressOf, copyBytes } from "../../core/address.js";
import { nowMs } from "../../core/clock.js";
import { CommError } from "../../core/errors.js";
import { type ExchangeResult, type Pending, isPool } from "../communicator.js";
import { formatLink } from "../link.js";
import { copyOwnPart } from "../regions.js";
import { type Place, deliverParked, messageIndex, moveBetween, withdrawMessage } from "./move.js";
import { type Started, showRequest } from "./request.js";
import { FIELD, WORD } from "./ring.js";
import type { OpenExchange, Seat } from "./seat.js";

/** Rows worth waking a peer for, to copy them together. */
const SHARED_BYTES = 1 << 17;
const TIMER_LATE_MS = 0.1;
const LONGEST_SLEEP_MS = 1000;

/** Until the time or the next wake; what is left of less than a timer's lateness is watched. */
function sleep(wake: Int32Array, rank: number, seen: number, ms: number): void {
  if (ms > TIMER_LATE_MS / 2) Atomics.wait(wake, rank, seen, Math.min(ms, LONGEST_SLEEP_MS));
}

export class ThreadsPending implements Pending, OpenExchange {
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
    // Peers that already wait help to copy large rows while this rank copies its own part.
    members.forEach((peer, p) => {
      if (peer !== place.rank && request.send.bytes[p] >= SHARED_BYTES) place.view.wakeRank(peer);
    });
    copyOwnPart(request, members.indexOf(place.rank));
    for (const peer of others) moveBetween(place, peer);
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
    const limitMs = sinceMs + deadlineMs;
    for (;;) {
      const seen = Atomics.load(view.wake, rank);
      const reason = view.aborted;
      if (reason !== undefined) throw this.#error(reason, []);
      seat.tend();
      const moved = this.#move();
      if (moved !== undefined && moved.endMs > limitMs) throw this.#tooSlow(deadlineMs, sinceMs);
      const left = (moved?.endMs ?? limitMs) - nowMs();
      if (left > 0) sleep(view.wake, rank, seen, moved === undefined ? left : left - TIMER_LATE_MS);
      else if (moved === undefined) throw this.#unanswered(deadlineMs);
      else {
        seat.open.delete(this);
        return (this.#result = moved);
      }
    }
  }

  /** Moves what can be moved. @returns the result once nothing is left, so that the place in the ring is free */
  #move(): ExchangeResult | undefined {
    if (this.#moved !== undefined || !this.#isPosted) return this.#moved;
    if (!this.#isAllMoved()) {
      for (const peer of this.#missing) moveBetween(this.place, peer);
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
    const memory = recv.grow(ring.poolUsed[ring.posting(rank, sequence)] * WORD);
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
    return ring.fields[ring.field(ring.posting(rank, sequence), peer, field)];
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

  /** What arrives is known already, and that it comes too late. */
  #tooSlow(deadlineMs: number, sinceMs: number): CommError {
    const arrival = (peer: number): number => this.#field(peer, FIELD.arrivalMs);
    const peer = this.started.others.reduce((a, b) => (arrival(b) > arrival(a) ? b : a));
    const [bytes, readyMs] = [this.#field(peer, FIELD.gotBytes), this.#field(peer, FIELD.readyMs)];
    const neededMs = arrival(peer) - readyMs;
    const { link = { bytesPerMs: Infinity, latencyMs: 0 } } = this.place.view;
    const isQueued = neededMs > 1.01 * (bytes / link.bytesPerMs + link.latencyMs);
    const lateMs = neededMs > deadlineMs ? 0 : readyMs - sinceMs;
    const s = (ms: number): string => `${(ms / 1e3).toPrecision(3)} s`;
    const reason = [
      `nothing can come within ${deadlineMs / 1e3} s: `,
      `the link (${formatLink(link)}) needs ${s(neededMs)} for ${bytes} bytes from rank ${peer}`,
      isQueued ? " and what it carries before them" : "",
      lateMs > 0 ? `, which came ${s(lateMs)} late` : "",
      "; allow a longer deadline, or model a faster link",
    ].join("");
    return this.#giveUp(reason, [peer], "");
  }

  #unanswered(deadlineMs: number): CommError {
    const { view } = this.place;
    const missing = this.#missing;
    const last = missing
      .map((peer) => `rank ${peer} (last seen in ${view.label(peer) || "start-up"})`)
      .join(", ");
    const reason = `no answer from ${last} within ${deadlineMs / 1e3} s`;
    return this.#giveUp(reason, missing, "had ");
  }

  #giveUp(reason: string, peers: readonly number[], verb: string): CommError {
    const { view, rank, label } = this.place;
    const error = this.#error(reason, peers);
    view.giveUp(`rank ${rank}, in ${label}, ${verb}${reason}`);
    return error;
  }

  #error(reason: string, peers: readonly number[]): CommError {
    this.seat.withdraw();
    const { rank, label } = this.place;
    return new CommError(`${label}: ${reason}`, { rank, peers, operator: label });
  }
}
