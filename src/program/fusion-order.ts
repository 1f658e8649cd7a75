/** Orders in which operators are fused, and for whom each of them waits and who waits for it. */
import { assert } from "../core/errors.js";
import type { Operator } from "./operator.js";
import { type Program, dependencies } from "./program.js";
import type { Schedule } from "./schedule.js";

/** Operators as bits. */
export type Bits = bigint;

/** What may run when. */
export interface Ordering {
  /** What each operator waits for, by operator id: dependencies, and the edges of a schedule. */
  readonly before: readonly (readonly number[])[];
  /** Ids in an order that keeps that. */
  readonly order: readonly number[];
}

/** The order of the program, or one of a schedule: compute operators in theirs, all others as soon as they can. */
export function orderingOf(program: Program, schedule: Schedule | undefined): Ordering {
  const before = dependencies(program).map((ids) => [...ids]);
  if (schedule === undefined) return { before, order: program.operators.map(({ id }) => id) };
  for (const [earlier, later] of schedule.edges) before[later].push(earlier);
  const { compute, network, storage } = schedule.order;
  const queues = [network, storage, compute].map((ids) => ({ ids, at: 0 }));
  const done = new Set<number>();
  while (done.size < program.operators.length) {
    const queue = queues.find(
      ({ ids, at }) => at < ids.length && before[ids[at]].every((id) => done.has(id)),
    );
    assert(queue !== undefined, `the schedule ${schedule.policy} is legal for the program`);
    done.add(queue.ids[queue.at++]);
  }
  return { before, order: [...done] };
}

/** By operator id: which operators of a set must run before it, and which after it, itself not included. */
export interface Relations {
  readonly before: readonly Bits[];
  readonly after: readonly Bits[];
}

export function relationsTo(set: readonly Operator[], { before, order }: Ordering): Relations {
  const bit = new Map(set.map(({ id }, i) => [id, 1n << BigInt(i)]));
  const earlier = before.map(() => 0n);
  const later = before.map(() => 0n);
  for (const id of order)
    for (const other of before[id]) earlier[id] |= earlier[other] | (bit.get(other) ?? 0n);
  for (const id of order.toReversed())
    for (const other of before[id]) later[other] |= later[id] | (bit.get(id) ?? 0n);
  return { before: earlier, after: later };
}

export function numBits(bits: Bits): number {
  let count = 0;
  for (let rest = bits; rest !== 0n; rest &= rest - 1n) count++;
  return count;
}
