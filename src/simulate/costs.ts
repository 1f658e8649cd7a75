/** What operators cost (method 8.4): measured on this machine, or unit costs when nothing is known yet. */
import { InputError } from "../core/errors.js";
import { once } from "../core/once.js";
import { median, trimmedMean } from "../core/statistics.js";
import type { Operator, Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { type OperatorClass, roleOf, workLabel } from "../program/work.js";
import type { TimelineEvent } from "../timeline/timeline.js";

/** Milliseconds of an operator: compute time, or time a transfer occupies the link. */
export type Costs = (op: Operator) => number;

/** Costs by operator id, for the virtual clock. */
export function costArray(program: Program, costs: Costs): Float64Array {
  return Float64Array.from(program.operators, costs);
}

/** Before anything has been measured: matrix work costs 1 (backward 2), a transfer of rows 1, everything else next to nothing. */
export const unitCosts: Costs = (op) => {
  const role = roleOf(op);
  if (op.stream !== "compute") return role === "rows" ? 1 : 0.1;
  const size = role === "small" ? 0.05 : 1;
  return op.pass === "backward" ? 2 * size : size;
};

/** Milliseconds by class, the same forward and backward; `otherwise` for classes that are not named. */
export function classCosts(table: Partial<Record<OperatorClass, number>>, otherwise: number): Costs {
  return (op) => table[op.work.class] ?? otherwise;
}

/** Durations of a cost key that are remembered. */
const RECENT_SAMPLES = 96;

/** Durations seen so far, by what operators cost alike; what is typical of the most recent ones. */
export class MeasuredCosts {
  readonly #samples = new Map<string, number[]>();

  /**
   * @param keyOf what durations are remembered by; default: `Operator.cost`
   * @param typicalOf what is typical of them
   */
  constructor(
    readonly keyOf: (event: TimelineEvent) => string = ({ cost }) => cost,
    readonly typicalOf: (durations: readonly number[]) => number = trimmedMean,
  ) {}

  add(events: readonly TimelineEvent[]): void {
    // Transfers queue behind each other: an operator occupies its stream from when the one before it has arrived.
    const free: Record<Stream, number> = { compute: -Infinity, network: -Infinity, storage: -Infinity };
    for (const event of [...events].sort((a, b) => a.startMs - b.startMs)) {
      const from = Math.max(event.startMs, Math.min(free[event.stream], event.endMs));
      free[event.stream] = Math.max(free[event.stream], event.endMs);
      const key = this.keyOf(event);
      const list = this.#samples.get(key) ?? [];
      list.push(event.endMs - from);
      if (list.length > RECENT_SAMPLES) list.shift();
      this.#samples.set(key, list);
    }
  }

  /** Typical milliseconds by key. */
  typical(): CostTable {
    return Object.fromEntries([...this.#samples].map(([key, list]) => [key, this.typicalOf(list)]));
  }
}

/** Milliseconds by `Operator.cost`. */
export type CostTable = Readonly<Record<string, number>>;

/** What ranks agree on: the median of what is typical of each of them. */
export function agreedCosts(tables: readonly CostTable[]): CostTable {
  const keys = [...new Set(tables.flatMap((table) => Object.keys(table)))].sort();
  return Object.fromEntries(
    keys.map((key) => [key, median(tables.flatMap((table) => (key in table ? [table[key]] : [])))]),
  );
}

/**
 * How far costs have moved: the sum of all changes over the sum of all costs, each cost key counted as often as the program
 * has operators of it, whatever their stream; and an operator of the key that moved most.
 */
export function costDrift(
  program: Program,
  before: CostTable,
  after: CostTable,
): { readonly share: number; readonly most: Operator | undefined } {
  const alike = new Map<string, Operator[]>();
  for (const op of program.operators)
    if (op.cost in after) alike.set(op.cost, [...(alike.get(op.cost) ?? []), op]);
  let [moved, total, largest] = [0, 0, -1];
  let most: Operator | undefined;
  for (const [key, operators] of alike) {
    const change = operators.length * Math.abs(after[key] - (before[key] ?? 0));
    moved += change;
    total += operators.length * (before[key] ?? 0);
    if (change > largest) [largest, most] = [change, operators[0]];
  }
  return { share: total === 0 ? (moved > 0 ? Infinity : 0) : moved / total, most };
}

/**
 * Costs from a table.
 * @throws InputError from the costs, for an operator that the table does not know
 */
export function tableCosts(table: CostTable): Costs {
  return (op) => {
    const ms = table[op.cost];
    if (ms === undefined)
      throw new InputError(`No cost is known of ${op.name} (${op.cost}); measure a program that has it`);
    return ms;
  };
}

/**
 * Costs from a table; what it does not know is estimated from the operator's work, at the rate of what it knows of the same
 * stream.
 * @param programs whose operators the table was measured on, for their work
 * @param say hears once that operators are estimated, and one of them
 */
export function estimatedCosts(
  table: CostTable,
  programs: readonly Program[],
  say: (line: string) => void,
): Costs {
  const rates = new Map<Stream, Record<"flops" | "bytes" | "ms" | "count", number>>();
  for (const { cost, stream, work } of programs.flatMap((program) => program.operators)) {
    if (table[cost] === undefined) continue;
    const known = rates.get(stream) ?? { flops: 0, bytes: 0, ms: 0, count: 0 };
    known.flops += work.flops;
    known.bytes += work.bytes;
    known.ms += table[cost];
    known.count++;
    rates.set(stream, known);
  }
  const sayOnce = once(say);
  return (op) => {
    const ms = table[op.cost];
    if (ms !== undefined) return ms;
    const { flops, bytes, ...all } = rates.get(op.stream) ?? { flops: 0, bytes: 0, ms: 0, count: 1 };
    // Whichever of its two kinds of work is the larger share of what is known.
    const share = Math.max(flops > 0 ? op.work.flops / flops : 0, bytes > 0 ? op.work.bytes / bytes : 0);
    const estimate = all.ms * (share > 0 ? share : 1 / all.count);
    const what = `${workLabel(op)} (${op.name}): estimated from its work, ${estimate.toFixed(2)} ms`;
    sayOnce(`No cost is known of ${what}`);
    return estimate;
  };
}
