/**
 * Search over priorities, for programs that are too wide for their orders to be tried: several micro-batches side by side. Operators of one
 * micro-batch, layer and pass are more or less urgent by one offset; a random walk changes a few offsets at a time and keeps
 * what a list schedule says is no slower. So a micro-batch may run ahead of the others where the network has time, and they
 * end together. Deterministic: the walk depends on nothing but the program and the number of attempts.
 */
import { philox } from "../core/rng.js";
import { graphOf } from "../program/graph.js";
import type { Program } from "../program/program.js";
import { type ListResult, listSchedule, tails } from "./list-schedule.js";

export interface PrioritySearch {
  readonly cost: Float64Array;
  /** Lists to make. */
  readonly attempts: number;
  /** Stops when no schedule can be faster. */
  readonly boundMs: number;
}

/** Offsets changed at a time, at most. */
const MOST_CHANGES = 3;
/** Of the longest path: how far an offset is moved at most, either way. */
const REACH = 0.1;

/** The fastest list schedule that the walk meets; the first has no offsets. */
export function searchPriorities(program: Program, { cost, attempts, boundMs }: PrioritySearch): ListResult {
  const tail = tails(graphOf(program), cost);
  const groups = groupsOf(program);
  const reach = REACH * tail.reduce((a, b) => Math.max(a, b), 0);
  const random = philox(0, "priorities");
  let draws = 0;
  const draw = (): number => random.uniform(draws++);

  const list = (offsets: Float64Array): ListResult =>
    listSchedule(program, { cost, urgency: tail.map((ms, id) => ms + offsets[groups.of[id]]) });
  let offsets = new Float64Array(groups.count);
  let best = list(offsets);
  for (let attempt = 1; attempt < attempts && best.ms > boundMs + 1e-6; attempt++) {
    const changed = offsets.slice();
    const changes = 1 + Math.floor(draw() * MOST_CHANGES);
    for (let i = 0; i < changes; i++) changed[Math.floor(draw() * groups.count)] += (2 * draw() - 1) * reach;
    const found = list(changed);
    if (found.ms <= best.ms) [best, offsets] = [found, changed];
  }
  return best;
}

/** Operators of one micro-batch, layer and pass have one offset. */
function groupsOf({ operators }: Program): { readonly of: Int32Array; readonly count: number } {
  const known = new Map<string, number>();
  const of = Int32Array.from(operators, ({ microBatch, layer, pass }) => {
    const key = `${microBatch} ${layer} ${pass}`;
    const group = known.get(key) ?? known.size;
    known.set(key, group);
    return group;
  });
  return { of, count: known.size };
}
