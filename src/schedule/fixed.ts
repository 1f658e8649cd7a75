/**
 * The experts run at one place of their window: in its K-th slot, after K − 1 of its large operators and before the rest
 * (method 7.4), or where a published schedule has them. Gate and encode run as early as they can, decode as late as it can.
 */
import { graphOf } from "../program/graph.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { expertWindows } from "./placement.js";
import type { Schedule } from "../program/schedule.js";
import { roleOf } from "../program/work.js";
import { listSchedule } from "./list-schedule.js";

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
  const name = slots.forward === slots.backward ? slots.forward : `${slots.forward},${slots.backward}`;
  return placed(program, {
    policy: `fixed(${name})`,
    place: "the K-th large operator",
    numBefore: (pass) => slots[pass] - 1,
  });
}

/**
 * The published schedule of LongCat-Flash (method 7.5): attention alone; dispatch beside the MLP behind it; the experts alone; combine
 * beside the next attention and MLP. Backward is its mirror image. (Its second stage also projects the queries, keys and values
 * of the next attention; attention is one operator here, and stays whole in the fourth.)
 */
export function fourStages(program: Program): Schedule {
  return placed(program, {
    policy: "fixed(four-stage)",
    place: "the second large operator of the forward pass, and the last of the backward pass",
    numBefore: (pass, size) => (pass === "forward" ? 1 : size - 1),
  });
}

interface Place {
  readonly policy: string;
  /** For people: what experts run before. */
  readonly place: string;
  /** Of a window's so many large operators, those that experts follow. */
  readonly numBefore: (pass: Operator["pass"], size: number) => number;
}

function placed(program: Program, { policy, place, numBefore }: Place): Schedule {
  /** Orders that the program does not ask for: of each expert and the large operators of its window. */
  const holds: (readonly [number, number])[] = [];
  for (const [expert, large] of expertWindows(program)) {
    const before = numBefore(program.operators[expert].pass, large.length);
    large.forEach((id, i) => holds.push(i < before ? [id, expert] : [expert, id]));
  }
  // Without costs, time stands still: what can run does, in the order of its urgency.
  const cost = new Float64Array(program.operators.length);
  const urgency = Float64Array.from(distanceToTransfer(program), (distance) => -distance);
  const { order, ms } = listSchedule(program, { cost, urgency, holds });
  if (ms === Infinity)
    return {
      ...fixed(program, { forward: 1, backward: 1 }),
      note: `${policy}: an order with this slot would wait for itself here; slot 1 is used`,
    };
  return { policy, order, edges: [], note: `${policy}: the expert before ${place}` };
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
