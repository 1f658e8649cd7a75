import { STREAMS } from "./operator.js";
import { type Program, dependencies } from "./program.js";
import type { Schedule } from "./schedule.js";

/**
 * Why a schedule is not legal for a program, or undefined when it is: every operator once, on its own stream, and no
 * circle of "waits for" between data, `after`, extra edges and the orders of the streams.
 */
export function whyIllegal(program: Program, schedule: Schedule): string | undefined {
  const { operators } = program;
  const seen = new Set<number>();
  for (const stream of STREAMS)
    for (const id of schedule.order[stream]) {
      const op = operators[id];
      if (op === undefined) return `operator ${id} is not in the program`;
      if (op.stream !== stream) return `${op.name} is on the ${stream} stream, it belongs to ${op.stream}`;
      if (seen.has(id)) return `${op.name} is scheduled twice`;
      seen.add(id);
    }
  const missing = operators.find((op) => !seen.has(op.id));
  if (missing !== undefined) return `${missing.name} is not scheduled`;

  const waitsFor = dependencies(program).map((ids) => [...ids]);
  for (const [before, after] of schedule.edges) {
    if (operators[before] === undefined || operators[after] === undefined)
      return `an edge names operator ${before} or ${after}, which the program does not have`;
    waitsFor[after].push(before);
  }
  for (const stream of STREAMS)
    schedule.order[stream].forEach((id, i, order) => i > 0 && waitsFor[id].push(order[i - 1]));
  return circle(program, waitsFor);
}

/** An operator that would wait for itself, and through which others. */
function circle(program: Program, waitsFor: readonly (readonly number[])[]): string | undefined {
  const open = waitsFor.map((ids) => new Set(ids).size);
  const followers: number[][] = waitsFor.map(() => []);
  waitsFor.forEach((ids, id) => new Set(ids).forEach((before) => followers[before].push(id)));
  const ready = open.flatMap((count, id) => (count === 0 ? [id] : []));
  for (let id = ready.pop(); id !== undefined; id = ready.pop())
    for (const next of followers[id]) if (--open[next] === 0) ready.push(next);
  const stuck = open.findIndex((count) => count > 0);
  if (stuck < 0) return undefined;
  const path = [stuck];
  for (;;) {
    const next = waitsFor[path[path.length - 1]].find((id) => open[id] > 0) as number;
    const again = path.indexOf(next);
    if (again >= 0) {
      const names = [...path.slice(again), next].map((id) => program.operators[id].name);
      return `the order would wait for itself: ${names.join(" waits for ")}`;
    }
    path.push(next);
  }
}
