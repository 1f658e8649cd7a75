/**
 * The best order of a segment by trying all of them: partial orders grow operator by operator, of two that have done
 * the same work the one that is later in every respect is dropped. When too many remain, only the most promising are
 * followed, and the result is no longer known to be the best.
 */
import { graphOf } from "../program/graph.js";
import type { Program } from "../program/program.js";
import type { Segment } from "./segments.js";

export interface Placed {
  /** Indices into the segment's operators, per stream in order. */
  readonly compute: readonly number[];
  readonly network: readonly number[];
  readonly ms: number;
  /** No other order is faster. */
  readonly isOptimal: boolean;
}

const MAX_STATES = 256;
/** Bits of the set of operators done that a number holds exactly. */
const MAX_OPERATORS = 50;

interface State {
  readonly done: number;
  readonly clock: number;
  readonly linkFree: number;
  readonly ends: Float64Array;
  readonly computeLeft: number;
  /** How it came about: a list from the last to the first. */
  readonly step: Step | undefined;
  bound: number;
}

interface Step {
  readonly before: Step | undefined;
  readonly compute: number;
  readonly network: readonly number[];
}

/** @returns undefined when the segment is too large, or has storage operators */
export function placeSegment(program: Program, segment: Segment, cost: Float64Array): Placed | undefined {
  const search = new SegmentSearch(program, segment, cost);
  return search.isPossible ? search.run() : undefined;
}

class SegmentSearch {
  readonly #cost: Float64Array;
  readonly #before: readonly (readonly number[])[];
  readonly #compute: readonly number[];
  readonly #network: readonly number[];
  readonly #tail: Float64Array;
  /** By operator: its bit in the set of compute operators done, or 0. */
  readonly #bits: readonly number[];
  readonly isPossible: boolean;
  /** Transfers form a chain through compute operators: there is one order of them. */
  readonly #hasOneTransferOrder: boolean;

  constructor(program: Program, { ids }: Segment, cost: Float64Array) {
    const local = new Map(ids.map((id, i) => [id, i]));
    const { before } = graphOf(program);
    this.#cost = Float64Array.from(ids, (id) => cost[id]);
    this.#before = ids.map((id) => before[id].flatMap((b) => local.get(b) ?? []));
    const of = (stream: string): number[] =>
      ids.flatMap((id, i) => (program.operators[id].stream === stream ? [i] : []));
    this.#compute = of("compute");
    this.#network = of("network");
    this.#bits = ids.map((_, i) => (this.#compute.includes(i) ? 2 ** this.#compute.indexOf(i) : 0));
    this.isPossible =
      this.#compute.length <= MAX_OPERATORS && of("storage").length === 0 && this.#compute.length > 0;
    const tail = (this.#tail = new Float64Array(ids.length));
    for (let i = ids.length - 1; i >= 0; i--) {
      tail[i] += this.#cost[i];
      for (const b of this.#before[i]) tail[b] = Math.max(tail[b], tail[i]);
    }
    const reach = ids.map(() => new Set<number>());
    this.#before.forEach((list, i) => {
      for (const b of list) {
        reach[i].add(b);
        for (const earlier of reach[b]) reach[i].add(earlier);
      }
    });
    this.#hasOneTransferOrder = this.#network.every(
      (n, k) =>
        (k === 0 || reach[n].has(this.#network[k - 1])) &&
        this.#before[n].every((b) => !this.#network.includes(b)),
    );
  }

  run(): Placed {
    const count = this.#cost.length;
    let states: State[] = [
      {
        done: 0,
        clock: 0,
        linkFree: 0,
        ends: new Float64Array(count).fill(Infinity),
        computeLeft: this.#compute.reduce((sum, i) => sum + this.#cost[i], 0),
        step: undefined,
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
    const steps: Step[] = [];
    for (let step = best.step; step !== undefined; step = step.before) steps.unshift(step);
    return {
      compute: steps.flatMap((step) => (step.compute < 0 ? [] : [step.compute])),
      network: steps.flatMap((step) => step.network),
      ms: best.clock,
      isOptimal: isComplete && this.#hasOneTransferOrder,
    };
  }

  /** The state after one more compute operator; undefined when it cannot be next. */
  #append(state: State, i: number): State | undefined {
    for (const b of this.#before[i]) if (this.#isStuck(state, b)) return undefined;
    const ends = state.ends.slice();
    const issued: number[] = [];
    let { clock, linkFree } = state;
    for (;;) {
      linkFree = this.#issue(ends, clock, linkFree, issued);
      const ready = this.#readyAt(ends, i);
      if (ready <= clock) break;
      let wake = ready;
      for (const n of this.#network) if (ends[n] > clock && ends[n] < wake) wake = ends[n];
      if (wake === Infinity) return undefined;
      clock = wake;
    }
    clock += this.#cost[i];
    ends[i] = clock;
    const computeLeft = state.computeLeft - this.#cost[i];
    // What is still to come takes at least the computing that is left, and the longest path from what is on its way.
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
      step: { before: state.step, compute: i, network: issued },
      bound,
    };
  }

  #earliest(ends: Float64Array, clock: number, j: number): number {
    let earliest = clock;
    for (const b of this.#before[j]) if (ends[b] !== Infinity) earliest = Math.max(earliest, ends[b]);
    return earliest;
  }

  /** An operator that has not run and will not by waiting: a compute operator, or a transfer behind one. */
  #isStuck(state: State, i: number): boolean {
    if (state.ends[i] !== Infinity) return false;
    return this.#bits[i] > 0 || this.#before[i].some((b) => this.#isStuck(state, b));
  }

  #readyAt(ends: Float64Array, i: number): number {
    let ready = 0;
    for (const b of this.#before[i]) if (ends[b] > ready) ready = ends[b];
    return ready;
  }

  /** Sends whatever exists at this time, what has the longest path ahead first; returns when the link is free. */
  #issue(ends: Float64Array, clock: number, linkFree: number, issued: number[]): number {
    for (;;) {
      let chosen = -1;
      for (const n of this.#network)
        if (ends[n] === Infinity && this.#readyAt(ends, n) <= clock)
          if (chosen < 0 || this.#tail[n] > this.#tail[chosen] + 1e-9) chosen = n;
      if (chosen < 0) return linkFree;
      linkFree = Math.max(linkFree, clock) + this.#cost[chosen];
      ends[chosen] = linkFree;
      issued.push(chosen);
    }
  }

  #drain(state: State): State {
    const ends = state.ends.slice();
    const issued: number[] = [];
    let { clock, linkFree } = state;
    for (;;) {
      linkFree = this.#issue(ends, clock, linkFree, issued);
      let wake = Infinity;
      for (const n of this.#network) if (ends[n] > clock && ends[n] < wake) wake = ends[n];
      if (wake === Infinity) break;
      clock = wake;
    }
    for (const end of ends) clock = Math.max(clock, end);
    return { ...state, clock, step: { before: state.step, compute: -1, network: issued } };
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
    if (a.clock > b.clock + 1e-9 || Math.max(a.linkFree, a.clock) > Math.max(b.linkFree, b.clock) + 1e-9)
      return false;
    return this.#network.every((n) => Math.max(a.ends[n], a.clock) <= Math.max(b.ends[n], b.clock) + 1e-9);
  }
}
