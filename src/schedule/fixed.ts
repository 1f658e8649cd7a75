/**
 * The experts run in the K-th slot of their window: after K − 1 of its large operators, before the rest (method 7.4). Gate
 * and encode run as early as they can, decode as late as it can.
 */
import { graphOf } from "../program/graph.js";
import type { Program } from "../program/program.js";
import { expertWindows } from "./placement.js";
import type { Schedule } from "../program/schedule.js";
import { roleOf } from "../program/work.js";
import { orderByStream } from "./sequential.js";

/** Slots of the widest window: large operators that neither lead to an expert nor wait for it, plus one. */
export function numSlots(program: Program): number {
  let widest = 0;
  for (const window of expertWindows(program).values()) widest = Math.max(widest, window.length);
  return Math.min(widest, 6) + 1;
}

export function fixed(
  program: Program,
  slots: { readonly forward: number; readonly backward: number },
): Schedule {
  const { operators } = program;
  const { before, after } = graphOf(program);
  const policy = `fixed(${slots.forward === slots.backward ? slots.forward : `${slots.forward},${slots.backward}`})`;
  /** Orders that the program does not ask for: of each expert and the large operators of its window. */
  const later = after.map((ids) => [...ids]);
  const waiting = Int32Array.from(before, (ids) => ids.length);
  const add = (earlier: number, id: number): void => {
    later[earlier].push(id);
    waiting[id]++;
  };
  for (const [expert, large] of expertWindows(program)) {
    const wanted = operators[expert].pass === "forward" ? slots.forward : slots.backward;
    const slot = Math.min(wanted, large.length + 1);
    large.slice(0, slot - 1).forEach((id) => add(id, expert));
    large.slice(slot - 1).forEach((id) => add(expert, id));
  }
  const urgency = distanceToTransfer(program);
  const open = operators.flatMap(({ id }) => (waiting[id] === 0 ? [id] : []));
  const order: number[] = [];
  while (open.length > 0) {
    let at = 0;
    for (let i = 1; i < open.length; i++) {
      const by = urgency[open[i]] - urgency[open[at]];
      if (by < 0 || (by === 0 && open[i] < open[at])) at = i;
    }
    const [chosen] = open.splice(at, 1);
    order.push(chosen);
    for (const next of later[chosen]) if (--waiting[next] === 0) open.push(next);
  }
  if (order.length < operators.length)
    return {
      ...fixed(program, { forward: 1, backward: 1 }),
      note: `${policy}: an order with this slot would wait for itself here; slot 1 is used`,
    };
  return {
    policy,
    order: orderByStream(program, order),
    edges: [],
    note: `${policy}: the expert before the K-th large operator`,
  };
}

/**
 * What runs first of the operators that can: 0 transfers; 1 small operators that a transfer waits for; 2 experts and large
 * operators, in program order; 3 decode.
 */
function distanceToTransfer(program: Program): number[] {
  const { before } = graphOf(program);
  const urgency = program.operators.map((op): number =>
    op.stream !== "compute" ? 0 : op.kind === "decode" ? 3 : 2,
  );
  for (let id = program.operators.length - 1; id >= 0; id--)
    if (urgency[id] <= 1)
      for (const b of before[id]) {
        const op = program.operators[b];
        const role = roleOf(op);
        if (op.stream === "compute" && role !== "large" && role !== "expert")
          urgency[b] = Math.min(urgency[b], 1);
      }
  return urgency;
}
