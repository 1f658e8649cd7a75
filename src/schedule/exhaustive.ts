/**
 * Finds the best order of a segment. Partial orders grow by one operator at a time; of two that have run the same operators,
 * one that is nowhere ahead of the other (clock, links, transfers under way) is dropped. If more than MAX_STATES remain, only
 * those with the lowest bound are followed, and the result may miss the best.
 */
import { Ancestors } from "../program/graph.js";
import { STREAMS, type Stream } from "../program/operator.js";
import type { Schedule } from "../program/schedule.js";
import { tails } from "./list-schedule.js";
import type { SegmentProblem } from "./segments.js";

export interface Placed {
  /** Indices into the segment's operators, per stream in order. */
  readonly order: Schedule["order"];
  readonly ms: number;
  /** No other order is faster. */
  readonly isOptimal: boolean;
}

const MAX_STATES = 256;
/** The set of compute operators done is a bit mask in a number, which is exact up to 2^53. */
const MAX_OPERATORS = 50;

type Links = Readonly<Record<Stream, number>>;

interface State {
  readonly done: number;
  readonly clock: number;
  /** When each stream's link is free. */
  readonly linkFree: Links;
  readonly ends: Float64Array;
  readonly computeLeft: number;
  /** The compute operator appended last, linked to the one before it. */
  readonly last: Appended | undefined;
  bound: number;
}

interface Appended {
  readonly before: Appended | undefined;
  readonly compute: number;
  readonly transfers: readonly number[];
}

/** @returns undefined when the segment is too large, or has nothing to compute */
export function placeSegment(problem: SegmentProblem): Placed | undefined {
  const search = new SegmentSearch(problem);
  return search.isPossible ? search.run() : undefined;
}

class SegmentSearch {
  readonly #cost: Float64Array;
  readonly #before: readonly (readonly number[])[];
  readonly #compute: readonly number[];
  /** By operator. */
  readonly #stream: readonly Stream[];
  readonly #transfers: readonly number[];
  readonly #tail: Float64Array;
  /** By operator: its bit in the set of compute operators done, or 0. */
  readonly #bits: readonly number[];
  readonly isPossible: boolean;
  /** Whether each transfer of a stream must wait for the one before it. Only then is the result proven best. */
  readonly #hasOneTransferOrder: boolean;

  constructor({ graph, streams, cost }: SegmentProblem) {
    this.#cost = cost;
    this.#before = graph.before;
    this.#stream = streams;
    const indices = [...streams.keys()];
    this.#compute = indices.filter((i) => streams[i] === "compute");
    this.#transfers = indices.filter((i) => streams[i] !== "compute");
    this.#bits = indices.map((i) => (streams[i] === "compute" ? 2 ** this.#compute.indexOf(i) : 0));
    this.isPossible = this.#compute.length <= MAX_OPERATORS && this.#compute.length > 0;
    this.#tail = tails(graph, cost);
    const ancestors = new Ancestors(graph);
    const lastOf = new Map<Stream, number>();
    this.#hasOneTransferOrder = this.#transfers.every((n) => {
      const last = lastOf.get(this.#stream[n]);
      lastOf.set(this.#stream[n], n);
      return (
        (last === undefined || ancestors.has(n, last)) &&
        this.#before[n].every((b) => this.#stream[b] === "compute")
      );
    });
  }

  run(): Placed {
    const count = this.#cost.length;
    let states: State[] = [
      {
        done: 0,
        clock: 0,
        linkFree: { compute: 0, network: 0, storage: 0 },
        ends: new Float64Array(count).fill(Infinity),
        computeLeft: this.#compute.reduce((sum, i) => sum + this.#cost[i], 0),
        last: undefined,
        bound: 0,
      },
    ];
    let isComplete = true;
    for (let depth = 0; depth < this.#compute.length; depth++) {
      const bySet = new Map<number, State[]>();
      for (const state of states)
        for (const i of this.#compute) {
          if (Math.floor(state.done / this.#bits[i]) % 2 === 1) continue;
          const next = this.#append(state, i);
          if (next !== undefined) this.#keep(bySet, next);
        }
      states = [...bySet.values()].flat();
      if (states.length > MAX_STATES) {
        isComplete = false;
        states = states.sort((a, b) => a.bound - b.bound).slice(0, MAX_STATES);
      }
    }
    const finished = states.map((state) => this.#drain(state));
    const best = finished.reduce((a, b) => (b.clock < a.clock - 1e-9 ? b : a));
    const appended: Appended[] = [];
    for (let at = best.last; at !== undefined; at = at.before) appended.unshift(at);
    const done = appended.flatMap(({ transfers, compute }) => [...transfers, compute]);
    const inStream = (stream: Stream): number[] => done.filter((i) => this.#stream[i] === stream);
    return {
      order: { compute: inStream("compute"), network: inStream("network"), storage: inStream("storage") },
      ms: best.clock,
      isOptimal: isComplete && this.#hasOneTransferOrder,
    };
  }

  /** The state after one more compute operator; undefined when it cannot be next. */
  #append(state: State, i: number): State | undefined {
    for (const b of this.#before[i]) if (this.#isStuck(state, b)) return undefined;
    const { ends, issued, linkFree, ...reached } = this.#letPass(state, i);
    if (this.#readyAt(ends, i) > reached.clock) return undefined;
    const clock = reached.clock + this.#cost[i];
    ends[i] = clock;
    const computeLeft = state.computeLeft - this.#cost[i];
    // No completion of this order ends before the computing that is left is done, nor before the longest path from any
    // operator that has not started.
    let bound = clock + computeLeft;
    for (let j = 0; j < ends.length; j++)
      if (ends[j] === Infinity)
        bound = Math.max(bound, Math.max(0, this.#earliest(ends, clock, j)) + this.#tail[j]);
    return {
      done: state.done + this.#bits[i],
      clock,
      linkFree,
      ends,
      computeLeft,
      last: { before: state.last, compute: i, transfers: issued },
      bound,
    };
  }

  #earliest(ends: Float64Array, clock: number, j: number): number {
    let earliest = clock;
    for (const b of this.#before[j]) if (ends[b] !== Infinity) earliest = Math.max(earliest, ends[b]);
    return earliest;
  }

  /** Waiting will not make this operator run: it is a compute operator that was not chosen yet, or a transfer that depends on one. */
  #isStuck(state: State, i: number): boolean {
    if (state.ends[i] !== Infinity) return false;
    return this.#bits[i] > 0 || this.#before[i].some((b) => this.#isStuck(state, b));
  }

  #readyAt(ends: Float64Array, i: number): number {
    let ready = 0;
    for (const b of this.#before[i]) if (ends[b] > ready) ready = ends[b];
    return ready;
  }

  /** Starts every transfer whose inputs exist at `clock`, the one with the longest path ahead first. @returns when the links are free again */
  #issue(ends: Float64Array, clock: number, linkFree: Links, issued: number[]): Links {
    for (;;) {
      let chosen = -1;
      for (const n of this.#transfers)
        if (ends[n] === Infinity && this.#readyAt(ends, n) <= clock)
          if (chosen < 0 || this.#tail[n] > this.#tail[chosen] + 1e-9) chosen = n;
      if (chosen < 0) return linkFree;
      const stream = this.#stream[chosen];
      ends[chosen] = Math.max(linkFree[stream], clock) + this.#cost[chosen];
      linkFree = { ...linkFree, [stream]: ends[chosen] };
      issued.push(chosen);
    }
  }

  /** Lets time pass and starts transfers, until an operator is ready or, without one, until nothing is under way. */
  #letPass(state: State, awaited?: number) {
    const ends = state.ends.slice();
    const issued: number[] = [];
    let { clock, linkFree } = state;
    for (;;) {
      linkFree = this.#issue(ends, clock, linkFree, issued);
      if (awaited !== undefined && this.#readyAt(ends, awaited) <= clock) break;
      let wake = Infinity;
      for (const n of this.#transfers) if (ends[n] > clock && ends[n] < wake) wake = ends[n];
      if (wake === Infinity) break;
      clock = wake;
    }
    return { ends, issued, clock, linkFree };
  }

  #drain(state: State): State {
    const { ends, issued, ...reached } = this.#letPass(state);
    const clock = Math.max(reached.clock, ...ends);
    return { ...state, clock, last: { before: state.last, compute: -1, transfers: issued } };
  }

  #keep(bySet: Map<number, State[]>, next: State): void {
    const rivals = bySet.get(next.done);
    if (rivals === undefined) {
      bySet.set(next.done, [next]);
      return;
    }
    if (rivals.some((rival) => this.#isNoLater(rival, next))) return;
    const left = rivals.filter((rival) => !this.#isNoLater(next, rival));
    left.push(next);
    bySet.set(next.done, left);
  }

  #isNoLater(a: State, b: State): boolean {
    if (a.clock > b.clock + 1e-9) return false;
    for (const stream of STREAMS)
      if (Math.max(a.linkFree[stream], a.clock) > Math.max(b.linkFree[stream], b.clock) + 1e-9) return false;
    return this.#transfers.every((n) => Math.max(a.ends[n], a.clock) <= Math.max(b.ends[n], b.clock) + 1e-9);
  }
}
