/** Where the experts are: the large operators of their window (method 7.3), and a description of a schedule for people. */
import { ancestorsOf } from "../program/graph.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { type Role, roleOf, workLabel } from "../program/work.js";

/** Weight gradients alone may run anywhere: they are neither experts to be placed nor places. */
function hasRole(op: Operator, role: Role): boolean {
  return roleOf(op) === role && op.work.half !== "weight";
}

const windows = new WeakMap<Program, Map<number, readonly number[]>>();

/** By expert operator: large operators of the same micro-batch and pass that may run on either side of it. */
export function expertWindows(program: Program): ReadonlyMap<number, readonly number[]> {
  let found = windows.get(program);
  if (found !== undefined) return found;
  const ancestors = ancestorsOf(program);
  const large = program.operators.filter((op) => hasRole(op, "large"));
  found = new Map();
  for (const expert of program.operators) {
    if (!hasRole(expert, "expert")) continue;
    const window = large.filter(
      (op) =>
        op.pass === expert.pass &&
        op.microBatch === expert.microBatch &&
        !ancestors.has(expert.id, op.id) &&
        !ancestors.has(op.id, expert.id),
    );
    found.set(
      expert.id,
      window.map((op) => op.id),
    );
  }
  windows.set(program, found);
  return found;
}

/** "forward: expert in slot 2 of 4 (after mlp); backward: slot 3 of 4 (after attention')", the commonest place per pass. */
export function describePlacement(program: Program, schedule: Pick<Schedule, "order">): string {
  const indexOf = new Map(schedule.order.compute.map((id, i) => [id, i]));
  const at = (id: number): number => indexOf.get(id) as number;
  const parts: string[] = [];
  for (const pass of ["forward", "backward"] as const) {
    const places = new Map<string, number>();
    for (const [expert, window] of expertWindows(program)) {
      if (program.operators[expert].pass !== pass || window.length === 0) continue;
      const passed = window.filter((id) => at(id) < at(expert)).sort((a, b) => at(a) - at(b));
      const after =
        passed.length === 0 ? "first" : `after ${workLabel(program.operators[passed[passed.length - 1]])}`;
      const place = `slot ${passed.length + 1} of ${window.length + 1} (${after})`;
      places.set(place, (places.get(place) ?? 0) + 1);
    }
    if (places.size === 0) continue;
    const sorted = [...places].sort((a, b) => b[1] - a[1]);
    const shown = sorted
      .slice(0, 3)
      .map(([place, times]) => (sorted.length === 1 ? place : `${times} × ${place}`));
    parts.push(`${pass} ${shown.join(", ")}${sorted.length > 3 ? ", …" : ""}`);
  }
  return parts.length === 0 ? "" : `expert ${parts.join("; ")}`;
}
