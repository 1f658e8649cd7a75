import type { Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";

/** Operators per stream in the order given. */
export function orderByStream(program: Program, ids: readonly number[]): Record<Stream, number[]> {
  const order: Record<Stream, number[]> = { compute: [], network: [], storage: [] };
  for (const id of ids) order[program.operators[id].stream].push(id);
  return order;
}

/** Everything in program order, one operator at a time: a transfer starts after what precedes it and holds up what follows. */
export function sequential(program: Program): Schedule {
  const edges: [number, number][] = [];
  for (let id = 1; id < program.operators.length; id++) {
    const [before, after] = [program.operators[id - 1], program.operators[id]];
    if (before.stream !== after.stream) edges.push([before.id, after.id]);
  }
  const order = orderByStream(
    program,
    program.operators.map((op) => op.id),
  );
  return { policy: "sequential", order, edges, note: "sequential: one operator at a time, in program order" };
}
