/**
 * A program is the DAG of operators of one step on one rank, as plain data. Schedules, the simulator and the validator
 * look only at streams, reads, writes and `after`.
 */
import type { Operator } from "./operator.js";

/** What operators hand to each other. */
export interface Value {
  readonly id: number;
  readonly name: string;
  /** Upper bound of its size in bytes, for traffic and memory estimates; the real size may be ragged. */
  readonly bytes: number;
  /** Bound by the session, updated in place, kept between runs (a KV cache). */
  readonly isState?: boolean;
}

/** All operators of one step on one rank, with their values. */
export interface Program {
  readonly name: string;
  /** Topologically ordered by id: every read was written by a smaller id or is a program input. */
  readonly operators: readonly Operator[];
  readonly values: readonly Value[];
}

/** ids each operator waits for: writers of what it reads, plus `after`. Indexed by operator id. */
export function dependencies(program: Program): readonly (readonly number[])[] {
  const writer = new Map<number, number>();
  for (const op of program.operators) for (const value of op.writes) writer.set(value, op.id);
  return program.operators.map((op) => {
    const ids = new Set(op.after);
    for (const value of op.reads) {
      const id = writer.get(value);
      if (id !== undefined) ids.add(id);
    }
    return [...ids].sort((a, b) => a - b);
  });
}
