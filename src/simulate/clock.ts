/**
 * The virtual clock (method 8.5): the executor's rules over arrays of times, for one rank or a thousand, without building events.
 * A rank computes by itself and issues transfers between compute operators, or while it stands still. Ranks meet in
 * network transfers: one begins when every rank of its group has issued it, whatever older transfers of other groups
 * still wait for, and each rank's part ends after its ports have carried it. Storage transfers need no other rank.
 *
 * Each rank runs ahead as long as nothing that it does not know yet could change what it does. What is then to happen
 * first, over all ranks, happens next; so ports serve transfers in the order in which these begin.
 */
import { assert } from "../core/errors.js";
import type { Operator, Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { Stepper, type Steps, stepsOf } from "../program/stepper.js";
import { EventQueue } from "./event-queue.js";
import { Meetings } from "./meetings.js";
import { type Network, Ports } from "./network.js";

/** Called as time passes. Per rank, transfers of a stream are reported in the order in which they begin. */
export interface ClockWatcher {
  ran(op: Operator, rank: number, startMs: number, endMs: number, issuedMs?: number): void;
  stoodStill(waitingFor: number | undefined, rank: number, startMs: number, endMs: number): void;
}

export interface ClockOptions {
  /** Milliseconds by operator id, one table per rank; ranks may share a table. */
  readonly costs: readonly Float64Array[];
  /** Without a network every rank has one port, which a transfer occupies for its cost; so it does a rank's storage. */
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
  readonly #order: Schedule["order"];
  readonly #steps: Steps;
  /** Streams of transfers of which some wait for transfers. */
  readonly #relays: readonly Stream[];
  /** By operator: its place in the order of the network. */
  readonly #place: Int32Array;
  readonly #stepper: Stepper;
  readonly #now: Float64Array;
  readonly #storageFree: Float64Array;
  readonly #ports: Ports;
  /** Transfers whose end is known, as many as there are transfers of a rank at most; their ends, and the first of these. */
  readonly #maxInFlight: number;
  readonly #inFlight: Int32Array;
  readonly #ends: Float64Array;
  readonly #numInFlight: Int32Array;
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
    const { network, storage } = (this.#order = schedule.order);
    const ranks = (this.#numRanks = options.costs.length);
    this.#operators = program.operators;
    this.#steps = stepsOf(program, schedule);
    const isTransfer = (id: number): boolean => program.operators[id].stream !== "compute";
    const { before } = this.#steps;
    this.#relays = (["network", "storage"] as const).filter((stream) =>
      schedule.order[stream].some((id) => before[id].some(isTransfer)),
    );
    this.#place = new Int32Array(program.operators.length);
    network.forEach((id, place) => (this.#place[id] = place));
    this.#stepper = new Stepper(this.#steps, ranks);
    this.#now = new Float64Array(ranks);
    this.#storageFree = new Float64Array(ranks);
    this.#ports = new Ports(ranks, options.network);
    this.#maxInFlight = network.length + storage.length;
    this.#inFlight = new Int32Array(ranks * this.#maxInFlight);
    this.#ends = new Float64Array(ranks * this.#maxInFlight);
    this.#numInFlight = new Int32Array(ranks);
    this.#nextArrival = new Float64Array(ranks).fill(Infinity);
    this.#meetings = new Meetings(
      network.map((id) => options.network?.groupSize?.(program.operators[id]) ?? ranks),
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
    const waits = isFirst ? NaN : this.#goesOn[rank];
    this.#goesOn[rank] = NaN;
    // What happens first over all ranks happens whatever ends later.
    let mayGoOn = isFirst;
    const costs = this.options.costs[rank];
    const { watch } = this.options;
    const stepper = this.#stepper;
    for (let now = this.#now[rank]; ; this.#now[rank] = now) {
      this.#issue(rank, now);
      const id = stepper.startable("compute", rank);
      const next = id === undefined ? this.#nextArrival[rank] : now;
      if (next === Infinity) return;
      if (!mayGoOn && this.#numOpen[rank] > 0 && this.#dependsOnOpen(rank, id === undefined)) {
        this.#goesOn[rank] = next;
        if (next !== waits) this.#events.add(next, this.#meetings.count + rank);
        return;
      }
      mayGoOn = false;
      if (id === undefined) {
        // While it stands still a rank wakes at every arrival, since that may let it start further transfers.
        watch?.stoodStill(stepper.head("compute", rank), rank, now, next);
        now = next;
      } else {
        const end = now + costs[id];
        stepper.start(id, rank);
        this.#finish(id, rank, end);
        watch?.ran(this.#operators[id], rank, now, end);
        now = end;
      }
    }
  }

  #finish(id: number, rank: number, endMs: number): void {
    this.#stepper.finish(id, rank);
    if (endMs > this.#last) this.#last = endMs;
  }

  /** Collects what has arrived by now and issues the transfers whose inputs exist, in the order of their streams. */
  #issue(rank: number, now: number): void {
    const stepper = this.#stepper;
    for (;;) {
      if (this.#nextArrival[rank] <= now) this.#collect(rank, now);
      for (let id; (id = stepper.startable("network", rank)) !== undefined;) {
        stepper.start(id, rank);
        this.#numOpen[rank]++;
        const meeting = this.#meetings.join(this.#place[id], rank, now);
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
    const at = rank * this.#maxInFlight + this.#numInFlight[rank]++;
    this.#inFlight[at] = id;
    this.#ends[at] = endMs;
    if (endMs < this.#nextArrival[rank]) this.#nextArrival[rank] = endMs;
  }

  #collect(rank: number, now: number): void {
    const from = rank * this.#maxInFlight;
    const to = from + this.#numInFlight[rank];
    let left = from;
    let next = Infinity;
    for (let i = from; i < to; i++) {
      const end = this.#ends[i];
      if (end <= now) this.#finish(this.#inFlight[i], rank, end);
      else {
        this.#inFlight[left] = this.#inFlight[i];
        this.#ends[left++] = end;
        if (end < next) next = end;
      }
    }
    this.#numInFlight[rank] = left - from;
    this.#nextArrival[rank] = next;
  }

  /** Whether the end of open transfers is all that an operator waits for: it would start as soon as they end. */
  #dependsOnOpen(rank: number, standsStill: boolean): boolean {
    for (const stream of this.#relays) if (this.#isHeldByOpen(stream, rank)) return true;
    return standsStill && this.#isHeldByOpen("compute", rank);
  }

  #isHeldByOpen(stream: Stream, rank: number): boolean {
    const stepper = this.#stepper;
    const id = stepper.head(stream, rank);
    if (id === undefined) return false;
    const before = this.#steps.before[id];
    for (let i = 0; i < before.length; i++) {
      const earlier = before[i];
      if (stepper.isFinished(earlier, rank)) continue;
      if (!stepper.isStarted(earlier, rank) || this.#isInFlight(earlier, rank)) return false;
    }
    return true;
  }

  #isInFlight(id: number, rank: number): boolean {
    const from = rank * this.#maxInFlight;
    const to = from + this.#numInFlight[rank];
    for (let i = from; i < to; i++) if (this.#inFlight[i] === id) return true;
    return false;
  }

  /** All ranks of a group have issued a transfer. */
  #begin(meeting: number, begin: number): void {
    const { position, first, size } = this.#meetings.at(meeting);
    const op = this.#operators[this.#order.network[position]];
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
