/** Placement by search: list schedules and fixed slots are simulated, the best is taken. */
import { type Program, dependencies } from "../program/program.js";
import type { Costs } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { fixed, numSlots } from "./fixed.js";
import type { Schedule } from "./schedule.js";
import { orderByStream } from "./sequential.js";

/**
 * Greedy list schedule on a virtual clock: of the compute operators that can run now, the one with the longest path
 * still ahead of it, transfers included; transfers go out as soon as their inputs exist.
 */
export function eager(program: Program, costs: Costs): Schedule {
  const { operators } = program;
  const before = dependencies(program);
  const after: number[][] = operators.map(() => []);
  before.forEach((ids, id) => ids.forEach((b) => after[b].push(id)));
  const cost = operators.map(costs);
  const ahead = new Float64Array(operators.length);
  for (let id = operators.length - 1; id >= 0; id--) {
    let longest = 0;
    for (const next of after[id]) longest = Math.max(longest, ahead[next]);
    ahead[id] = longest + cost[id];
  }
  const waiting = before.map((ids) => ids.length);
  const readyAt = new Float64Array(operators.length);
  const open = new Set<number>();
  const order: number[] = [];
  let clock = 0;
  let linkFree = 0;
  const finish = (id: number, time: number): void => {
    for (const next of after[id]) {
      readyAt[next] = Math.max(readyAt[next], time);
      if (--waiting[next] === 0) open.add(next);
    }
  };
  operators.forEach((op) => waiting[op.id] === 0 && open.add(op.id));
  while (open.size > 0) {
    const transfer = best(
      [...open].filter((id) => operators[id].stream !== "compute" && readyAt[id] <= clock),
      (id) => ahead[id],
    );
    if (transfer !== undefined) {
      open.delete(transfer);
      order.push(transfer);
      linkFree = Math.max(linkFree, clock) + cost[transfer];
      finish(transfer, linkFree);
      continue;
    }
    const runnable = [...open].filter((id) => operators[id].stream === "compute" && readyAt[id] <= clock);
    const chosen = best(runnable, (id) => ahead[id]);
    if (chosen === undefined) {
      clock = Math.min(...[...open].map((id) => readyAt[id]).filter((time) => time > clock));
      continue;
    }
    open.delete(chosen);
    order.push(chosen);
    clock += cost[chosen];
    finish(chosen, clock);
  }
  return {
    policy: "eager",
    order: orderByStream(program, order),
    edges: [],
    note: "eager: longest path first",
  };
}

/** Largest by a figure; the first of equals. */
function best(ids: readonly number[], figure: (id: number) => number): number | undefined {
  let found: number | undefined;
  for (const id of ids.toSorted((a, b) => a - b))
    if (found === undefined || figure(id) > figure(found) + 1e-9) found = id;
  return found;
}

/** No schedule is faster than all computing, all communicating, or the longest chain. */
export function lowerBound(program: Program, costs: Costs): number {
  const total = { compute: 0, network: 0, storage: 0 };
  const reach = new Float64Array(program.operators.length);
  let longest = 0;
  dependencies(program).forEach((before, id) => {
    const op = program.operators[id];
    const cost = costs(op);
    total[op.stream] += cost;
    let start = 0;
    for (const b of before) start = Math.max(start, reach[b]);
    longest = Math.max(longest, (reach[id] = start + cost));
  });
  return Math.max(total.compute, total.network, longest);
}

/** Best of the eager schedule and every pair of fixed slots, by the simulator on these costs. */
export function adaptive(program: Program, costs: Costs): Schedule {
  const predict = (schedule: Schedule): number =>
    simulate(program, schedule, { costs: [costs] }).summary.stepMs;
  let chosen = eager(program, costs);
  let chosenMs = predict(chosen);
  let label = "longest path first";
  const slots = numSlots(program);
  const hasBackward = program.operators.some((op) => op.pass === "backward");
  for (let forward = 1; forward <= slots; forward++)
    for (let backward = 1; backward <= (hasBackward ? slots : 1); backward++) {
      const candidate = fixed(program, { forward, backward });
      const ms = predict(candidate);
      if (ms < chosenMs - 1e-9)
        [chosen, chosenMs, label] = [
          candidate,
          ms,
          hasBackward ? `slots ${forward} forward, ${backward} backward` : `slot ${forward}`,
        ];
    }
  const bound = lowerBound(program, costs);
  const gap = bound > 0 ? (chosenMs / bound - 1) * 100 : 0;
  const note = `adaptive: ${label}; predicted ${chosenMs.toFixed(1)} ms, at most ${gap.toFixed(1)} % above the lower bound ${bound.toFixed(1)} ms`;
  return { ...chosen, policy: "adaptive", note };
}
