/**
 * A program is the DAG of operators of one step on one rank, as plain data. What an operator does is looked up by
 * its `kind` in the executor; schedules, the simulator and the validator look only at streams, reads, writes and `after`.
 */
/** What operators of one kind of resource queue for: a rank runs one compute operator at a time, transfers beside it. */
export type Stream = "compute" | "network" | "storage";
export const STREAMS: readonly Stream[] = ["compute", "network", "storage"];

/** The half of a training step that an operator belongs to. */
export type Pass = "forward" | "backward";

/** What operators hand to each other. */
export interface Value {
  readonly id: number;
  readonly name: string;
  /** Upper bound of its size in bytes, for traffic and memory estimates; the real size may be ragged. */
  readonly bytes: number;
}

/** One node of a program, as plain data. */
export interface Operator {
  readonly id: number;
  /** Unique and readable: "L3.attention", "L3.dispatch", "L3.attention'" (a prime marks backward). */
  readonly name: string;
  /** What to run; the executor's table of actions is total over the kinds in use. */
  readonly kind: string;
  readonly stream: Stream;
  readonly pass: Pass;
  /** Block index, or undefined for embedding, head and step-level operators. */
  readonly layer?: number;
  /** Chunk index when rows were split for pipelining. */
  readonly chunk?: number;
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  /** Ordering edges beyond data (accumulation into one gradient buffer): ids that must finish first. */
  readonly after: readonly number[];
  /** Cost class: operators of one class are measured and estimated together ("attention", "expert'", "dispatch"). */
  readonly cost: string;
  /** Kind-specific static data (kernel, parameter names, chunk ranges …); JSON-like except kernels. */
  readonly data: unknown;
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
