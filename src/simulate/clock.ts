/**
 * The virtual clock: the executor's rules over arrays of times, for one rank or a thousand, without building events.
 * Ranks compute independently and meet in transfers: a transfer begins when every rank of its group has issued it, and
 * each rank's part ends after its ports have carried it. A rank issues transfers between compute operators.
 */
import { assert } from "../core/errors.js";
import { graphOf } from "../program/graph.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { type Network, type PortTimes, Ports } from "./network.js";

/** Called as time passes. Per rank, transfers are reported in the order they were issued. */
export interface ClockWatcher {
  ran(op: Operator, rank: number, startMs: number, endMs: number, issuedMs?: number): void;
  stoodStill(waitingFor: number | undefined, rank: number, startMs: number, endMs: number): void;
}

export interface ClockOptions {
  /** Milliseconds by operator id, one table per rank; ranks may share a table. */
  readonly costs: readonly Float64Array[];
  /** Without a network every rank has one port, which a transfer occupies for its cost. */
  readonly network?: Network;
  readonly watch?: ClockWatcher;
}

/** @returns when the last operator of the last rank has finished */
export function runClock(
  program: Program,
  schedule: Pick<Schedule, "order" | "edges">,
  options: ClockOptions,
): number {
  return new Clock(program, schedule, options).run();
}

class Clock {
  readonly #numRanks: number;
  readonly #before: readonly (readonly number[])[];
  readonly #compute: readonly number[];
  readonly #network: readonly number[];
  readonly #storage: readonly number[];
  /** When each operator has finished, [rank · operators + operator]. */
  readonly #ends: Float64Array;
  readonly #issued: Float64Array;
  readonly #now: Float64Array;
  readonly #next: Int32Array;
  readonly #nextIssue: Int32Array;
  readonly #nextBegin: Int32Array;
  readonly #nextStorage: Int32Array;
  readonly #storageFree: Float64Array;
  readonly #pendingNetwork: Int32Array;
  readonly #pendingStorage: Int32Array;
  readonly #ports: PortTimes;
  #finished = 0;

  constructor(
    readonly program: Program,
    schedule: Pick<Schedule, "order" | "edges">,
    readonly options: ClockOptions,
  ) {
    const ranks = options.costs.length;
    const count = program.operators.length;
    this.#numRanks = ranks;
    this.#before = withEdges(graphOf(program).before, schedule.edges);
    ({ compute: this.#compute, network: this.#network, storage: this.#storage } = schedule.order);
    this.#ends = new Float64Array(ranks * count).fill(Infinity);
    this.#issued = new Float64Array(ranks * this.#network.length);
    this.#now = new Float64Array(ranks);
    this.#next = new Int32Array(ranks);
    this.#nextIssue = new Int32Array(ranks);
    this.#nextBegin = new Int32Array(ranks);
    this.#nextStorage = new Int32Array(ranks);
    this.#storageFree = new Float64Array(ranks);
    this.#pendingNetwork = new Int32Array(ranks);
    this.#pendingStorage = new Int32Array(ranks);
    this.#ports = new Ports(ranks, options.network);
  }

  run(): number {
    for (let moved = true; moved;) {
      moved = false;
      for (let rank = 0; rank < this.#numRanks; rank++) while (this.#advance(rank)) moved = true;
      for (let rank = 0; rank < this.#numRanks;) {
        const begun = this.#begin(rank);
        if (begun) moved = true;
        else rank++;
      }
    }
    const total = this.program.operators.length * this.#numRanks;
    assert(this.#finished === total, `the schedule deadlocks: ${this.#finished} of ${total} operators ran`);
    let last = 0;
    for (const end of this.#ends) if (end > last) last = end;
    return last;
  }

  #readyAt(rank: number, id: number): number {
    const base = rank * this.program.operators.length;
    let latest = 0;
    const before = this.#before[id];
    for (let i = 0; i < before.length; i++) {
      const end = this.#ends[base + before[i]];
      if (end > latest) latest = end;
    }
    return latest;
  }

  #finish(op: Operator, rank: number, startMs: number, endMs: number, issuedMs?: number): void {
    this.#ends[rank * this.program.operators.length + op.id] = endMs;
    this.#finished++;
    this.options.watch?.ran(op, rank, startMs, endMs, issuedMs);
  }

  /** Transfers whose inputs exist now are issued, in the order of the stream. */
  #issue(rank: number): void {
    const now = this.#now[rank];
    while (this.#nextIssue[rank] < this.#network.length) {
      const at = this.#nextIssue[rank];
      if (this.#readyAt(rank, this.#network[at]) > now) break;
      this.#issued[rank * this.#network.length + at] = now;
      this.#nextIssue[rank]++;
    }
    while (this.#nextStorage[rank] < this.#storage.length) {
      const id = this.#storage[this.#nextStorage[rank]];
      if (this.#readyAt(rank, id) > now) break;
      this.#nextStorage[rank]++;
      const start = Math.max(now, this.#storageFree[rank]);
      this.#storageFree[rank] = start + this.options.costs[rank][id];
      this.#finish(this.program.operators[id], rank, now, this.#storageFree[rank]);
    }
  }

  /** One compute operator of a rank, or time passing until it can go on. */
  #advance(rank: number): boolean {
    this.#issue(rank);
    const now = this.#now[rank];
    const id = this.#compute[this.#next[rank]] as number | undefined;
    const ready = id === undefined ? Infinity : this.#readyAt(rank, id);
    if (ready > now) {
      // Standing still, the rank wakes at every arrival and may issue what that arrival allows.
      const wake = Math.min(ready, this.#nextArrival(rank));
      if (wake === Infinity) return false;
      this.options.watch?.stoodStill(id, rank, now, wake);
      this.#now[rank] = wake;
      return true;
    }
    const end = now + this.options.costs[rank][id as number];
    this.#now[rank] = end;
    this.#next[rank]++;
    this.#finish(this.program.operators[id as number], rank, now, end);
    return true;
  }

  #nextArrival(rank: number): number {
    return Math.min(
      this.#earliest(rank, this.#network, this.#nextBegin[rank], this.#pendingNetwork),
      this.#earliest(rank, this.#storage, this.#nextStorage[rank], this.#pendingStorage),
    );
  }

  /** The earliest end after now among the first `begun` of a stream; `pending` remembers where those begin. */
  #earliest(rank: number, stream: readonly number[], begun: number, pending: Int32Array): number {
    const base = rank * this.program.operators.length;
    const now = this.#now[rank];
    while (pending[rank] < begun && this.#ends[base + stream[pending[rank]]] <= now) pending[rank]++;
    let earliest = Infinity;
    for (let i = pending[rank]; i < begun; i++) {
      const end = this.#ends[base + stream[i]];
      if (end > now && end < earliest) earliest = end;
    }
    return earliest;
  }

  /** The next transfer of a rank, once every rank of its group has come to it and issued it. */
  #begin(rank: number): boolean {
    const length = this.#network.length;
    const at = this.#nextBegin[rank];
    if (at >= this.#nextIssue[rank]) return false;
    const op = this.program.operators[this.#network[at]];
    const size = this.options.network?.groupSize?.(op) ?? this.#numRanks;
    const first = rank - (rank % size);
    let begin = 0;
    for (let peer = first; peer < first + size; peer++) {
      if (this.#nextBegin[peer] !== at || this.#nextIssue[peer] <= at) return false;
      begin = Math.max(begin, this.#issued[peer * length + at]);
    }
    const ends = this.#ports.carry(op, begin, first, size, (peer) => this.options.costs[peer][op.id]);
    for (let peer = first; peer < first + size; peer++) {
      this.#nextBegin[peer]++;
      this.#finish(op, peer, begin, ends[peer - first], this.#issued[peer * length + at]);
    }
    return true;
  }
}

function withEdges(
  before: readonly (readonly number[])[],
  edges: Schedule["edges"],
): readonly (readonly number[])[] {
  if (edges.length === 0) return before;
  const all = before.map((ids) => [...ids]);
  for (const [earlier, later] of edges) all[later].push(earlier);
  return all;
}
