/**
 * What may start now: dependencies, extra edges and the order of each stream, stepped through by whoever runs a
 * program. A stepper knows no time. Its driver says when an operator starts and when it has finished, by a real
 * clock (the executor), by a virtual one (the simulator) or by none at all (the memory planner).
 */
import { assert } from "../core/errors.js";
import { graphOf } from "./graph.js";
import { STREAMS, type Stream } from "./operator.js";
import type { Program } from "./program.js";
import type { Schedule } from "./schedule.js";

/** In place of the number of operators waited for. */
const STARTED = -1;
const FINISHED = -2;
/** In place of an operator. */
const NONE = -1;
const NUM_STREAMS = STREAMS.length;
/** Comparing is a quarter of a simulation faster than looking up in a table. */
function indexOf(stream: Stream): number {
  return stream === "compute" ? 0 : stream === "network" ? 1 : 2;
}

type Order = Pick<Schedule, "order" | "edges">;

/** The part that never moves, shared by all steppers of a program under a schedule. */
export class Steps {
  /** What each operator waits for beside its place in the stream: dependencies and edges, by operator id. */
  readonly before: readonly (readonly number[])[];
  /** How many those are. */
  readonly numBefore: Int32Array;
  /** Who waits for operator i: `after[afterStart[i]]` up to, not including, `after[afterStart[i + 1]]`. */
  readonly after: Int32Array;
  readonly afterStart: Int32Array;
  /** The first operator of each stream, and by operator the number of its stream and who follows in it, or NONE. */
  readonly first: Int32Array;
  readonly stream: Uint8Array;
  readonly next: Int32Array;

  /** @param schedule a legal one; whether it is, `whyIllegal` says */
  constructor(
    readonly program: Program,
    { order, edges }: Order,
  ) {
    const { before, after } = withEdges(program, edges);
    const count = before.length;
    this.before = before;
    this.numBefore = Int32Array.from(before, (ids) => ids.length);
    this.afterStart = new Int32Array(count + 1);
    for (let id = 0; id < count; id++) this.afterStart[id + 1] = this.afterStart[id] + after[id].length;
    this.after = new Int32Array(this.afterStart[count]);
    for (let id = 0; id < count; id++) this.after.set(after[id], this.afterStart[id]);
    this.first = Int32Array.from(STREAMS, (stream) => order[stream][0] ?? NONE);
    this.stream = new Uint8Array(count);
    this.next = new Int32Array(count);
    for (const stream of STREAMS)
      order[stream].forEach((id, at, ids) => {
        this.stream[id] = indexOf(stream);
        this.next[id] = ids[at + 1] ?? NONE;
      });
  }
}

const known = new WeakMap<Order, Steps>();

/** The steps of a program under a schedule, computed once per schedule. */
export function stepsOf(program: Program, schedule: Order): Steps {
  let steps = known.get(schedule);
  if (steps?.program !== program) known.set(schedule, (steps = new Steps(program, schedule)));
  return steps;
}

/**
 * Where one step stands, on one rank or on several ranks that run the same program under the same schedule.
 *
 * Operators start in the order of their stream, as soon as all they wait for has finished, and finish in any order.
 * The driver calls `start(id)` when it starts an operator and `finish(id)` when the values that it writes exist; for
 * an operator that runs to its end at once, both in a row.
 */
export class Stepper {
  /** Unfinished operators that each one waits for, or STARTED, or FINISHED. By rank, then by operator. */
  readonly #waiting: Int32Array;
  /** Whose turn it is in each stream, or NONE. By rank, then by stream. */
  readonly #heads: Int32Array;
  readonly #count: number;
  #finished = 0;

  constructor(
    readonly steps: Steps,
    readonly numRanks = 1,
  ) {
    const count = (this.#count = steps.numBefore.length);
    this.#waiting = new Int32Array(numRanks * count);
    for (let rank = 0; rank < numRanks; rank++) this.#waiting.set(steps.numBefore, rank * count);
    this.#heads = new Int32Array(numRanks * NUM_STREAMS);
    for (let rank = 0; rank < numRanks; rank++) this.#heads.set(steps.first, rank * NUM_STREAMS);
  }

  /** The operator whose turn it is in a stream, whether it may start or not; undefined at the stream's end. */
  head(stream: Stream, rank = 0): number | undefined {
    const id = this.#heads[rank * NUM_STREAMS + indexOf(stream)];
    return id === NONE ? undefined : id;
  }

  /** The operator whose turn it is in a stream, if all it waits for has finished. */
  startable(stream: Stream, rank = 0): number | undefined {
    const id = this.#heads[rank * NUM_STREAMS + indexOf(stream)];
    return id !== NONE && this.#waiting[rank * this.#count + id] === 0 ? id : undefined;
  }

  /** Says that an operator has started, which must have been startable; the next of its stream has its turn. */
  start(id: number, rank = 0): void {
    const head = rank * NUM_STREAMS + this.steps.stream[id];
    const at = rank * this.#count + id;
    const isStartable = this.#heads[head] === id && this.#waiting[at] === 0;
    assert(isStartable, "an operator starts when it is its turn and all it waits for has finished");
    this.#waiting[at] = STARTED;
    this.#heads[head] = this.steps.next[id];
  }

  /** Says that a started operator has finished: the values that it writes exist. */
  finish(id: number, rank = 0): void {
    const { after, afterStart } = this.steps;
    const base = rank * this.#count;
    assert(this.#waiting[base + id] === STARTED, "an operator finishes once, after it has started");
    this.#waiting[base + id] = FINISHED;
    this.#finished++;
    const end = afterStart[id + 1];
    for (let i = afterStart[id]; i < end; i++) this.#waiting[base + after[i]]--;
  }

  isStarted(id: number, rank = 0): boolean {
    return this.#waiting[rank * this.#count + id] < 0;
  }

  isFinished(id: number, rank = 0): boolean {
    return this.#waiting[rank * this.#count + id] === FINISHED;
  }

  /** Operators finished so far, of all ranks together. */
  get finished(): number {
    return this.#finished;
  }

  /** Whether every operator of every rank has finished. */
  get isDone(): boolean {
    return this.#finished === this.#count * this.numRanks;
  }
}

function withEdges(program: Program, edges: Schedule["edges"]): ReturnType<typeof graphOf> {
  const graph = graphOf(program);
  if (edges.length === 0) return graph;
  const before = graph.before.map((ids) => [...ids]);
  const after = graph.after.map((ids) => [...ids]);
  for (const [earlier, later] of edges) {
    before[later].push(earlier);
    after[earlier].push(later);
  }
  return { before, after };
}
