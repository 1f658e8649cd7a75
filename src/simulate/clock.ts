/**
 * The virtual clock: the executor's rules over arrays of times, for one rank or a thousand, without building events.
 * A rank computes by itself and issues transfers between compute operators, or while it stands still. Ranks meet in
 * network transfers: one begins when every rank of its group has issued it, whatever older transfers of other groups
 * still wait for, and each rank's part ends after its ports have carried it. Storage transfers need no other rank.
 *
 * Each rank runs ahead as long as nothing that it does not know yet could change what it does. What is then to happen
 * first, over all ranks, happens next; so ports serve transfers in the order in which these begin.
 */
import { assert } from "../core/errors.js";
import type { Operator, Program, Stream } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { Stepper, type Steps, stepsOf } from "../program/stepper.js";
import { EventQueue } from "./event-queue.js";
import { type Network, type PortTimes, Ports } from "./network.js";

/** Called as time passes. Per rank, transfers of a stream are reported in the order in which they begin. */
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
  readonly #operators: readonly Operator[];
  readonly #numRanks: number;
  readonly #steps: Steps;
  readonly #stepper: Stepper;
  readonly #now: Float64Array;
  readonly #storageFree: Float64Array;
  readonly #ports: PortTimes;
  /** By rank: transfers whose end is known, their ends, and the first of these. */
  readonly #inFlight: number[][];
  readonly #ends: number[][];
  readonly #nextArrival: Float64Array;
  readonly #meetings: Meetings;
  /** By rank: transfers issued whose end is not known yet, because ranks are missing or it is not their turn. */
  readonly #numOpen: Int32Array;
  readonly #events = new EventQueue();
  /** By rank: the time at which it goes on unless it hears of a transfer before; then it is no longer in the queue. */
  readonly #goesOn: Float64Array;
  #last = 0;

  constructor(
    readonly program: Program,
    schedule: Pick<Schedule, "order" | "edges">,
    readonly options: ClockOptions,
  ) {
    const ranks = (this.#numRanks = options.costs.length);
    this.#operators = program.operators;
    this.#steps = stepsOf(program, schedule);
    this.#stepper = new Stepper(this.#steps, ranks);
    this.#now = new Float64Array(ranks);
    this.#storageFree = new Float64Array(ranks);
    this.#ports = new Ports(ranks, options.network);
    this.#inFlight = Array.from({ length: ranks }, () => []);
    this.#ends = Array.from({ length: ranks }, () => []);
    this.#nextArrival = new Float64Array(ranks).fill(Infinity);
    this.#meetings = new Meetings(
      schedule.order.network.map((id) => options.network?.groupSize?.(program.operators[id]) ?? ranks),
      ranks,
    );
    this.#numOpen = new Int32Array(ranks);
    this.#goesOn = new Float64Array(ranks).fill(NaN);
  }

  run(): number {
    for (let rank = 0; rank < this.#numRanks; rank++) this.#runAhead(rank, false);
    while (!this.#events.isEmpty) {
      const { time, key } = this.#events.next();
      if (key < this.#meetings.count) this.#begin(key, time);
      else {
        const rank = key - this.#meetings.count;
        if (this.#goesOn[rank] === time) this.#runAhead(rank, true);
      }
    }
    const stepper = this.#stepper;
    const total = this.#operators.length * this.#numRanks;
    assert(stepper.isDone, `the schedule deadlocks: ${stepper.finished} of ${total} operators ran`);
    return this.#last;
  }

  /** A rank goes on until it would need to know when an open transfer ends. */
  #runAhead(rank: number, isFirst: boolean): void {
    const waits = this.#goesOn[rank];
    this.#goesOn[rank] = NaN;
    // What happens first over all ranks happens whatever ends later.
    let mayGoOn = isFirst;
    for (;;) {
      this.#issue(rank);
      const now = this.#now[rank];
      const id = this.#stepper.startable("compute", rank);
      const next = id === undefined ? this.#nextArrival[rank] : now;
      if (next === Infinity) return;
      if (!mayGoOn && this.#numOpen[rank] > 0 && (id === undefined || this.#mayIssueSoon(rank))) {
        this.#goesOn[rank] = next;
        if (next !== waits) this.#events.add(next, this.#meetings.count + rank);
        return;
      }
      mayGoOn = false;
      if (id === undefined) {
        // Standing still, the rank wakes at every arrival and may issue what that arrival allows.
        this.options.watch?.stoodStill(this.#stepper.head("compute", rank), rank, now, next);
        this.#now[rank] = next;
      } else {
        const end = now + this.options.costs[rank][id];
        this.#now[rank] = end;
        this.#stepper.start(id, rank);
        this.#finish(id, rank, end);
        this.options.watch?.ran(this.#operators[id], rank, now, end);
      }
    }
  }

  #finish(id: number, rank: number, endMs: number): void {
    this.#stepper.finish(id, rank);
    if (endMs > this.#last) this.#last = endMs;
  }

  /** Collects what has arrived by now and issues the transfers whose inputs exist, in the order of their streams. */
  #issue(rank: number): void {
    const stepper = this.#stepper;
    const now = this.#now[rank];
    for (;;) {
      if (this.#nextArrival[rank] <= now) this.#collect(rank, now);
      for (let id; (id = stepper.startable("network", rank)) !== undefined;) {
        stepper.start(id, rank);
        this.#numOpen[rank]++;
        const meeting = this.#meetings.join(this.#steps.position[id], rank, now);
        if (meeting !== undefined) this.#events.add(this.#meetings.begins[meeting], meeting);
      }
      for (let id; (id = stepper.startable("storage", rank)) !== undefined;) {
        stepper.start(id, rank);
        const begin = Math.max(now, this.#storageFree[rank]);
        const end = (this.#storageFree[rank] = begin + this.options.costs[rank][id]);
        this.#fly(id, rank, end);
        this.options.watch?.ran(this.#operators[id], rank, begin, end, now);
      }
      if (this.#nextArrival[rank] > now) return;
    }
  }

  #fly(id: number, rank: number, endMs: number): void {
    this.#inFlight[rank].push(id);
    this.#ends[rank].push(endMs);
    if (endMs < this.#nextArrival[rank]) this.#nextArrival[rank] = endMs;
  }

  #collect(rank: number, now: number): void {
    const [ids, ends] = [this.#inFlight[rank], this.#ends[rank]];
    let left = 0;
    let next = Infinity;
    for (let i = 0; i < ids.length; i++) {
      const end = ends[i];
      if (end <= now) this.#finish(ids[i], rank, end);
      else {
        ids[left] = ids[i];
        ends[left++] = end;
        if (end < next) next = end;
      }
    }
    ids.length = ends.length = left;
    this.#nextArrival[rank] = next;
  }

  /** Whether a rank waits only for open transfers to issue another one: it would be issued as soon as they end. */
  #mayIssueSoon(rank: number): boolean {
    return this.#isHeldByOpen("network", rank) || this.#isHeldByOpen("storage", rank);
  }

  #isHeldByOpen(stream: Stream, rank: number): boolean {
    const stepper = this.#stepper;
    const id = stepper.head(stream, rank);
    if (id === undefined) return false;
    for (const earlier of this.#steps.before[id])
      if (!stepper.isFinished(earlier, rank)) {
        const isOpen = stepper.isStarted(earlier, rank) && !this.#inFlight[rank].includes(earlier);
        if (!isOpen) return false;
      }
    return true;
  }

  /** All ranks of a group have issued a transfer. */
  #begin(meeting: number, begin: number): void {
    const { position, first, size } = this.#meetings.at(meeting);
    const op = this.#operators[this.#steps.order.network[position]];
    const ends = this.#ports.carry(op, begin, first, size, (peer) => this.options.costs[peer][op.id]);
    for (let i = 0; i < size; i++) {
      const rank = first + i;
      this.#numOpen[rank]--;
      this.#fly(op.id, rank, ends[i]);
      this.options.watch?.ran(op, rank, begin, ends[i], this.#meetings.issuedMs(position, rank));
    }
    for (let rank = first; rank < first + size; rank++) this.#runAhead(rank, false);
  }
}

/** Who has come to which network transfer: a meeting is a transfer in one of the groups of ranks that make it. */
class Meetings {
  /** Meetings of all transfers, numbered by transfer, then by group. */
  readonly count: number;
  /** When the last of those who have come came. */
  readonly begins: Float64Array;
  readonly #first: Int32Array;
  readonly #transfer: Int32Array;
  readonly #missing: Int32Array;
  readonly #issued: Float64Array;

  /** @param sizes how many neighbouring ranks meet, by transfer in the order of the stream */
  constructor(
    readonly sizes: readonly number[],
    readonly numRanks: number,
  ) {
    this.#first = new Int32Array(sizes.length + 1);
    sizes.forEach((size, i) => (this.#first[i + 1] = this.#first[i] + Math.ceil(numRanks / size)));
    this.count = this.#first[sizes.length];
    this.begins = new Float64Array(this.count);
    this.#transfer = new Int32Array(this.count);
    this.#missing = new Int32Array(this.count);
    sizes.forEach((size, i) => {
      this.#transfer.fill(i, this.#first[i], this.#first[i + 1]);
      this.#missing.fill(size, this.#first[i], this.#first[i + 1]);
    });
    this.#issued = new Float64Array(sizes.length * numRanks);
  }

  /** A rank issues a transfer. @returns the meeting when nobody is missing any more */
  join(transfer: number, rank: number, nowMs: number): number | undefined {
    const meeting = this.#first[transfer] + Math.floor(rank / this.sizes[transfer]);
    this.#issued[transfer * this.numRanks + rank] = nowMs;
    if (nowMs > this.begins[meeting]) this.begins[meeting] = nowMs;
    return --this.#missing[meeting] === 0 ? meeting : undefined;
  }

  at(meeting: number): { readonly position: number; readonly first: number; readonly size: number } {
    const position = this.#transfer[meeting];
    const size = this.sizes[position];
    return { position, first: (meeting - this.#first[position]) * size, size };
  }

  issuedMs(transfer: number, rank: number): number {
    return this.#issued[transfer * this.numRanks + rank];
  }
}
