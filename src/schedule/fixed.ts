/**
 * The paper's slots ①, ②, …: gate, encode as early and decode as late as they can; the expert before the K-th of the
 * large operators that lie in its window.
 */
import { type Program, dependencies } from "../program/program.js";
import type { Schedule } from "./schedule.js";
import { orderByStream } from "./sequential.js";

const LARGE = /^(attention|mlp|shared)/;
const EXPERT = /^expert/;

/** Slots of the widest window: large operators that neither lead to an expert nor wait for it, plus one. */
export function numSlots(program: Program): number {
  const related = relatives(program);
  let widest = 0;
  for (const op of program.operators)
    if (EXPERT.test(op.cost) && op.stream === "compute")
      widest = Math.max(widest, window(program, related, op.id).length);
  return Math.min(widest, 6) + 1;
}

/** Large operators of the same pass and pair that may run on either side of the expert. */
function window(program: Program, related: readonly Set<number>[], expert: number): number[] {
  const op = program.operators[expert];
  const layer = op.layer ?? 0;
  return program.operators
    .filter(
      (o) =>
        o.pass === op.pass &&
        LARGE.test(o.cost) &&
        o.layer !== undefined &&
        o.layer <= layer &&
        o.layer >= layer - 1 &&
        !related[expert].has(o.id) &&
        !related[o.id].has(expert),
    )
    .map((o) => o.id);
}

/** Everything that must run before each operator. */
function relatives(program: Program): readonly Set<number>[] {
  const before: Set<number>[] = [];
  dependencies(program).forEach((ids, id) => {
    const all = new Set<number>();
    for (const b of ids) {
      all.add(b);
      for (const earlier of before[b]) all.add(earlier);
    }
    before[id] = all;
  });
  return before;
}

export function fixed(
  program: Program,
  slots: { readonly forward: number; readonly backward: number },
): Schedule {
  const { operators } = program;
  const related = relatives(program);
  const before = dependencies(program);
  /** Operators that an expert waits for in this slot, beyond its inputs; and those that wait for it. */
  const extra = new Map<number, number[]>();
  const add = (id: number, earlier: number): void => void extra.set(id, [...(extra.get(id) ?? []), earlier]);
  for (const op of operators) {
    if (!EXPERT.test(op.cost) || op.stream !== "compute") continue;
    const large = window(program, related, op.id);
    const slot = Math.min(op.pass === "forward" ? slots.forward : slots.backward, large.length + 1);
    large.slice(0, slot - 1).forEach((id) => add(op.id, id));
    large.slice(slot - 1).forEach((id) => add(id, op.id));
  }
  const urgency = distanceToTransfer(program, before);
  const waiting = operators.map((op) => new Set([...before[op.id], ...(extra.get(op.id) ?? [])]));
  const done = new Set<number>();
  const order: number[] = [];
  while (order.length < operators.length) {
    let chosen = -1;
    for (const op of operators) {
      if (done.has(op.id) || ![...waiting[op.id]].every((b) => done.has(b))) continue;
      if (chosen < 0 || urgency[op.id] < urgency[chosen]) chosen = op.id;
    }
    if (chosen < 0)
      return {
        ...fixed(program, { forward: 1, backward: 1 }),
        note: "fixed: this slot is not possible here",
      };
    done.add(chosen);
    order.push(chosen);
  }
  const policy = `fixed(${slots.forward === slots.backward ? slots.forward : `${slots.forward},${slots.backward}`})`;
  return {
    policy,
    order: orderByStream(program, order),
    edges: [],
    note: `${policy}: the expert before the K-th large operator`,
  };
}

/** 0: sends; 1: small operators that lead to a transfer; 2: experts and large operators in program order; 3: decode. */
function distanceToTransfer(program: Program, before: readonly (readonly number[])[]): number[] {
  const urgency = program.operators.map((op): number =>
    op.stream !== "compute" ? 0 : /^decode/.test(op.cost) && op.pass === "forward" ? 3 : 2,
  );
  for (let id = program.operators.length - 1; id >= 0; id--)
    if (urgency[id] <= 1)
      for (const b of before[id]) {
        const { cost, stream } = program.operators[b];
        if (stream === "compute" && !LARGE.test(cost) && !EXPERT.test(cost))
          urgency[b] = Math.min(urgency[b], 1);
      }
  return urgency;
}
