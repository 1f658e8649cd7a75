/** An exchange under way at a board, as the rank sees it that posted it. */
import { addressOf, copyBytes } from "../../core/address.js";
import { nowMs } from "../../core/clock.js";
import { CommError } from "../../core/errors.js";
import { type ExchangeRequest, type ExchangeResult, type Pending, isPool } from "../communicator.js";
import { FIELD, WORD } from "./board.js";
import { type Place, deliverParked, messageIndex, movePair, sleepUntil, withdrawMessage } from "./move.js";
import type { Seat } from "./threads.js";

interface Posting {
  /** Held until everything has arrived: peers read and write its memory by address. */
  readonly request: ExchangeRequest;
  readonly members: readonly number[];
  readonly notesOut: Int32Array;
  readonly notes: Int32Array;
  readonly startMs: number;
}

export class ThreadsPending implements Pending {
  #result: ExchangeResult | undefined;
  /** What a pool grew into, held like the request. */
  #memory: Uint8Array | undefined;

  constructor(
    readonly seat: Seat,
    readonly place: Place,
    readonly posting: Posting,
  ) {}

  get finished(): boolean {
    return this.#result !== undefined;
  }

  get done(): boolean {
    if (this.#result !== undefined) return true;
    if (this.#missing().length > 0 && !this.#makeRoom()) return false;
    return nowMs() >= this.#latest(FIELD.arrivalMs);
  }

  wait(deadlineMs = this.place.view.board.deadlineMs): ExchangeResult {
    if (this.#result !== undefined) return this.#result;
    const { view, rank } = this.place;
    const limit = nowMs() + deadlineMs;
    for (;;) {
      const seen = Atomics.load(view.wake, rank);
      const reason = view.aborted;
      if (reason !== undefined) throw this.#error(reason, []);
      const missing = this.#missing();
      if (missing.length === 0) break;
      for (const peer of missing) movePair(this.place, peer);
      if (this.#makeRoom()) continue;
      const left = limit - nowMs();
      if (left <= 0) throw this.#late(missing, deadlineMs);
      Atomics.wait(view.wake, rank, seen, Math.min(left, 1000));
    }
    const arrival = this.#latest(FIELD.arrivalMs);
    sleepUntil(arrival);
    this.seat.open.delete(this);
    const startMs = Math.max(this.posting.startMs, this.#latest(FIELD.readyMs));
    return (this.#result = { ...this.#regions(), startMs, endMs: Math.max(arrival, startMs) });
  }

  #regions(): Pick<ExchangeResult, "bytes" | "offsets" | "notes"> {
    const { request, members, notes } = this.posting;
    const { send, recv } = request;
    const { rank } = this.place;
    const offsets = isPool(recv)
      ? members.map((peer) => (peer === rank ? 0 : this.#field(peer, FIELD.gotOffset)))
      : recv.offsets;
    const bytes = members.map((peer, p) =>
      peer === rank ? send.bytes[p] : this.#field(peer, FIELD.gotBytes),
    );
    return { bytes, offsets, notes };
  }

  /**
   * When all sizes are known and some messages are parked, takes memory for all of them and moves them there.
   * @returns whether everything has been received
   */
  #makeRoom(): boolean {
    const { view, id, sequence, rank } = this.place;
    const { recv, send } = this.posting.request;
    if (this.#memory !== undefined || !isPool(recv)) return false;
    const peers = this.posting.members.filter((peer) => peer !== rank);
    const state = peers.map((peer) => {
      const index = messageIndex(this.place, peer, rank);
      if (Atomics.load(view.claims, index) === -(sequence + 1)) return "parked";
      return Atomics.load(view.moved, index) === sequence + 1 ? "moved" : "open";
    });
    if (state.includes("open") || !state.includes("parked")) return false;
    const memory = recv.grow(view.poolUsed[view.slot(id, rank, sequence)] * WORD);
    this.#memory = memory;
    const [from, to] = [Number(addressOf(recv.buffer)), Number(addressOf(memory))];
    copyBytes(to, from, send.bytes[this.posting.members.indexOf(rank)]);
    peers.forEach((peer, i) => {
      const offset = this.#field(peer, FIELD.gotOffset);
      if (state[i] === "moved") copyBytes(to + offset, from + offset, this.#field(peer, FIELD.gotBytes));
      else deliverParked(this.place, peer, to);
    });
    return this.#missing().length === 0;
  }

  /** Peers whose message has not come, or who have not got ours. */
  #missing(): number[] {
    const { view, sequence, rank } = this.place;
    const isMoved = (from: number, to: number): boolean =>
      Atomics.load(view.moved, messageIndex(this.place, from, to)) === sequence + 1;
    return this.posting.members.filter(
      (peer) => peer !== rank && !(isMoved(peer, rank) && isMoved(rank, peer)),
    );
  }

  #field(peer: number, field: number): number {
    const { view, id, sequence, rank } = this.place;
    return view.fields[view.field(view.slot(id, rank, sequence), peer, field)];
  }

  #latest(field: number): number {
    let latest = 0;
    for (const peer of this.posting.members)
      if (peer !== this.place.rank) latest = Math.max(latest, this.#field(peer, field));
    return latest;
  }

  #late(missing: readonly number[], deadlineMs: number): CommError {
    const { view, rank, label } = this.place;
    const last = missing
      .map((peer) => `rank ${peer} (last seen in ${view.label(peer) || "start-up"})`)
      .join(", ");
    const reason = `no answer from ${last} within ${deadlineMs / 1e3} s`;
    const error = this.#error(reason, missing);
    view.giveUp(`rank ${rank}, in ${label}, had ${reason}`);
    return error;
  }

  /** Takes every message that nobody is moving, and lets those finish that are being moved. */
  withdraw(): void {
    const { rank } = this.place;
    for (const peer of this.posting.members) {
      if (peer === rank) continue;
      withdrawMessage(this.place, rank, peer);
      withdrawMessage(this.place, peer, rank);
    }
  }

  #error(reason: string, peers: readonly number[]): CommError {
    for (const pending of this.seat.open) pending.withdraw();
    this.seat.open.clear();
    const { rank, label } = this.place;
    return new CommError(`${label}: ${reason}`, { rank, peers, operator: label });
  }
}
