/** What operators cost: measured on this machine, or unit costs when nothing is known yet. */
import { median, trimmedMean } from "../core/statistics.js";
import type { Operator, Program } from "../program/program.js";
import type { TimelineEvent } from "../timeline/timeline.js";

/** Milliseconds of an operator: compute time, or time a transfer occupies the link. */
export type Costs = (op: Operator) => number;

/** Costs by operator id, for the virtual clock. */
export function costArray(program: Program, costs: Costs): Float64Array {
  return Float64Array.from(program.operators, costs);
}

/** Before anything has been measured: matrix work counts, the rest hardly, transfers are dear. */
export const unitCosts: Costs = (op) => {
  if (op.stream !== "compute") return /dispatch|combine/.test(op.cost) ? 1 : 0.1;
  const size = /attention|mlp|expert|shared|head/.test(op.cost) ? 1 : 0.05;
  return op.pass === "backward" ? 2 * size : size;
};

/** Chunked operators of one class differ from whole ones; layers do not. */
export function costClass(op: Pick<Operator, "cost" | "stream">): string {
  return `${op.stream} ${op.cost}`;
}

/** Durations seen so far per cost class; what is typical of the most recent ones. */
export class MeasuredCosts {
  readonly #samples = new Map<string, number[]>();

  static readonly WINDOW = 96;

  add(events: readonly TimelineEvent[]): void {
    // Transfers queue behind each other: an operator occupies the link from when the one before it has arrived.
    let linkFree = -Infinity;
    for (const event of [...events].sort((a, b) => a.startMs - b.startMs)) {
      let from = event.startMs;
      if (event.stream === "network") {
        from = Math.max(from, Math.min(linkFree, event.endMs));
        linkFree = Math.max(linkFree, event.endMs);
      }
      const key = costClass(event);
      const list = this.#samples.get(key) ?? [];
      list.push(event.endMs - from);
      if (list.length > MeasuredCosts.WINDOW) list.shift();
      this.#samples.set(key, list);
    }
  }

  /** Typical milliseconds per cost class. */
  typical(): CostTable {
    return Object.fromEntries([...this.#samples].map(([key, list]) => [key, trimmedMean(list)]));
  }
}

/** Milliseconds per cost class. */
export type CostTable = Readonly<Record<string, number>>;

/** What ranks agree on: per class the median of what is typical of each of them. */
export function agreedCosts(tables: readonly CostTable[]): CostTable {
  const keys = [...new Set(tables.flatMap((table) => Object.keys(table)))].sort();
  return Object.fromEntries(
    keys.map((key) => [key, median(tables.flatMap((table) => (key in table ? [table[key]] : [])))]),
  );
}

/**
 * How far costs have moved, as a share of all of a program's costs, and the class that moved most. Times of streams
 * count alike: a link that halved its rate is a change as large as a kernel that takes as much longer.
 */
export function costDrift(
  program: Program,
  before: CostTable,
  after: CostTable,
): { readonly share: number; readonly cost: string } {
  const counts = new Map<string, number>();
  for (const op of program.operators) {
    const key = costClass(op);
    if (key in after) counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  let [moved, total, largest, cost] = [0, 0, -1, ""];
  for (const [key, count] of counts) {
    const change = count * Math.abs(after[key] - (before[key] ?? 0));
    moved += change;
    total += count * (before[key] ?? 0);
    if (change > largest) [largest, cost] = [change, key];
  }
  return { share: total === 0 ? (moved > 0 ? Infinity : 0) : moved / total, cost };
}

/** Costs from a table by class; a class that was never seen costs nothing. */
export function tableCosts(table: CostTable): Costs {
  return (op) => table[costClass(op)] ?? 0;
}
