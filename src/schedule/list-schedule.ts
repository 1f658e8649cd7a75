/** List scheduling on a virtual clock: always the most urgent operator that can run now. */
import { type Graph, graphOf } from "../program/graph.js";
import { STREAMS } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { type Costs, costArray } from "../simulate/costs.js";
import type { Schedule } from "../program/schedule.js";
import { orderByStream } from "./sequential.js";

/**
 * Milliseconds of the longest path that begins with each operator, itself included.
 * @param tail what is known of them: is raised in place
 */
export function tails(
  { after }: Graph,
  cost: Float64Array,
  tail: Float64Array = new Float64Array(after.length),
): Float64Array {
  for (let id = after.length - 1; id >= 0; id--) {
    let longest = 0;
    for (const next of after[id]) if (tail[next] > longest) longest = tail[next];
    tail[id] = Math.max(tail[id], longest + cost[id]);
  }
  return tail;
}

/** Milliseconds of the longest path that leads to each operator, itself not included; `head` as in `tails`. */
export function heads(
  { before }: Graph,
  cost: Float64Array,
  head: Float64Array = new Float64Array(before.length),
): Float64Array {
  before.forEach((ids, id) => {
    for (const earlier of ids) head[id] = Math.max(head[id], head[earlier] + cost[earlier]);
  });
  return head;
}

export interface ListOptions {
  readonly cost: Float64Array;
  /** The larger, the sooner; of equals the first in the program. Default: the longest path ahead. */
  readonly urgency?: Float64Array;
  /** Compute operators whose order is decided already; the others go wherever there is time. */
  readonly sequence?: readonly number[];
  /** Pairs of operators of which the second waits for the first, whatever their urgency. */
  readonly holds?: readonly (readonly [number, number])[];
}

export interface ListResult {
  readonly order: Schedule["order"];
  /** Milliseconds until everything has finished. Infinity if sequence and holds wait for each other; the order is then incomplete. */
  readonly ms: number;
  /** Times in which the compute stream stood still, and the operator of the sequence that it waited to run. */
  readonly gaps: readonly { readonly waiting: number | undefined; readonly ms: number }[];
}

/** Makes a legal order. A link that is free carries the most urgent of the transfers whose inputs exist; one at a time, to its end. */
export function listSchedule(program: Program, options: ListOptions): ListResult {
  return new ListRun(program, options).run();
}

type StreamName = keyof Schedule["order"];

const STARTING_ORDER: readonly StreamName[] = ["network", "storage", "compute"];

class ListRun {
  readonly #waiting: Int32Array;
  readonly #readyAt: Float64Array;
  readonly #later: readonly (readonly number[])[];
  readonly #open: Record<StreamName, number[]> = { compute: [], network: [], storage: [] };
  /** When each stream has done what it has started. */
  readonly #free: Record<StreamName, number> = { compute: 0, network: 0, storage: 0 };
  /** When the latest compute operator began. */
  #computeFrom = 0;
  readonly #urgency: Float64Array;
  readonly #sequence: readonly number[];
  readonly #isSequenced: Uint8Array;
  #turn = 0;
  #clock = 0;
  #last = 0;

  constructor(
    readonly program: Program,
    readonly options: ListOptions,
  ) {
    const { before, after } = graphOf(program);
    const { sequence = [], holds = [], urgency = tails(graphOf(program), options.cost) } = options;
    this.#urgency = urgency;
    this.#waiting = new Int32Array(before.length);
    for (let id = 0; id < before.length; id++) this.#waiting[id] = before[id].length;
    this.#readyAt = new Float64Array(before.length);
    this.#sequence = sequence;
    this.#isSequenced = new Uint8Array(before.length);
    for (const id of sequence) this.#isSequenced[id] = 1;
    this.#later = after;
    if (holds.length > 0) {
      const later = [...after];
      for (const [earlier, id] of holds) {
        later[earlier] = [...later[earlier], id];
        this.#waiting[id]++;
      }
      this.#later = later;
    }
    for (const op of program.operators) if (this.#waiting[op.id] === 0) this.#open[op.stream].push(op.id);
  }

  run(): ListResult {
    const ids: number[] = [];
    const gaps: { waiting: number | undefined; ms: number }[] = [];
    while (ids.length < this.program.operators.length) {
      const started = this.#startNext();
      if (started !== undefined) {
        ids.push(started);
        continue;
      }
      const wake = this.#wake();
      if (wake === Infinity) return { order: orderByStream(this.program, ids), ms: Infinity, gaps };
      if (this.#free.compute <= this.#clock)
        gaps.push({ waiting: this.#sequence[this.#turn], ms: wake - this.#clock });
      this.#clock = wake;
    }
    return { order: orderByStream(this.program, ids), ms: this.#last, gaps };
  }

  /** Transfers first: what is ready when a link becomes free is chosen then, not when it became ready. */
  #startNext(): number | undefined {
    for (const stream of STARTING_ORDER) {
      if (this.#free[stream] > this.#clock) continue;
      const id = this.#take(stream);
      if (id === undefined) continue;
      if (this.#isSequenced[id] === 1) this.#turn++;
      if (stream === "compute") this.#computeFrom = this.#clock;
      this.#free[stream] = this.#clock + this.options.cost[id];
      this.#finish(id, this.#free[stream]);
      return id;
    }
    return undefined;
  }

  /** A transfer is issued between compute operators, or while the rank stands still. */
  #issuedAt(stream: StreamName, id: number): number {
    const ready = this.#readyAt[id];
    if (stream === "compute" || ready <= this.#computeFrom) return ready;
    return ready < this.#free.compute ? this.#free.compute : ready;
  }

  /** When something next becomes ready, or free. */
  #wake(): number {
    let wake = Infinity;
    for (const stream of STREAMS) {
      const free = this.#free[stream];
      for (const id of this.#open[stream]) {
        const at = Math.max(free, this.#issuedAt(stream, id));
        if (at > this.#clock && at < wake) wake = at;
      }
    }
    return wake;
  }

  /** Removes the most urgent operator of a stream that is ready now; of a sequence only the one whose turn it is. */
  #take(stream: StreamName): number | undefined {
    const list = this.#open[stream];
    const urgency = this.#urgency;
    let at = -1;
    for (let i = 0; i < list.length; i++) {
      const id = list[i];
      if (this.#issuedAt(stream, id) > this.#clock) continue;
      if (this.#isSequenced[id] === 1 && this.#sequence[this.#turn] !== id) continue;
      if (at < 0) at = i;
      else {
        const more = urgency[id] - urgency[list[at]];
        if (more > 1e-9 || (more >= -1e-9 && id < list[at])) at = i;
      }
    }
    if (at < 0) return undefined;
    const found = list[at];
    list[at] = list[list.length - 1];
    list.pop();
    return found;
  }

  #finish(id: number, time: number): void {
    if (time > this.#last) this.#last = time;
    for (const next of this.#later[id]) {
      if (time > this.#readyAt[next]) this.#readyAt[next] = time;
      if (--this.#waiting[next] === 0) this.#open[this.program.operators[next].stream].push(next);
    }
  }
}

/** Greedy: of the compute operators that can run now, the one with the longest path still ahead of it. */
export function eager(program: Program, costs: Costs): Schedule {
  const { order } = listSchedule(program, { cost: costArray(program, costs) });
  return { policy: "eager", order, edges: [], note: "eager: longest path first" };
}
