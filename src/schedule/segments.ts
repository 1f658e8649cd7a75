/**
 * Cuts a program behind every operator through which all paths pass. What lies between two cuts, a segment, can be placed
 * by itself, and the best orders of the segments in a row are the best order of the whole. A pair of blocks gives one
 * segment forward and one backward. Operators that nothing waits for (split weight gradients, gradient reduction) are in
 * no segment: they fill gaps.
 */
import { type Graph, ancestorsOf, graphOf } from "../program/graph.js";
import type { Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";

export interface Segment {
  /** In program order; the last one is the operator through which everything passes. */
  readonly ids: readonly number[];
}

export interface Segments {
  readonly segments: readonly Segment[];
  /** 1 for operators that the end of the main chain waits for; the others are loose. */
  readonly isMain: Uint8Array;
}

const cuts = new WeakMap<Program, Segments>();

export function segmentsOf(program: Program): Segments {
  let found = cuts.get(program);
  if (found === undefined) cuts.set(program, (found = cut(program)));
  return found;
}

function cut(program: Program): Segments {
  const { before, after } = graphOf(program);
  const ancestors = ancestorsOf(program);
  const count = before.length;
  const isMain = new Uint8Array(count);
  if (count === 0) return { segments: [], isMain };
  let end = 0;
  let most = -1;
  for (let id = 0; id < count; id++) {
    if (after[id].length > 0) continue;
    const size = ancestors.count(id);
    if (size > most) [end, most] = [id, size];
  }
  isMain[end] = 1;
  const main: number[] = [];
  for (let id = 0; id <= end; id++) {
    if (id === end || ancestors.has(end, id)) {
      isMain[id] = 1;
      main.push(id);
    }
  }
  // An operator is a cut if all main operators before it in program order must run before it, and all behind it must run after it.
  const numAncestors = main.map((id) => ancestors.count(id));
  const narrow = main.filter(
    (id, at) => numAncestors[at] === at && main.every((other, o) => o <= at || ancestors.has(other, id)),
  );
  const segments: Segment[] = [];
  let from = 0;
  for (const id of narrow) {
    const to = main.indexOf(id, from) + 1;
    segments.push({ ids: main.slice(from, to) });
    from = to;
  }
  return { segments, isMain };
}

/** A segment by itself: its operators are numbered from 0, and what lies outside is not waited for. */
export interface SegmentProblem {
  readonly graph: Graph;
  readonly streams: readonly Stream[];
  readonly cost: Float64Array;
}

export function problemOf(program: Program, { ids }: Segment, cost: Float64Array): SegmentProblem {
  const { before, after } = graphOf(program);
  const indexOf = new Map(ids.map((id, i) => [id, i]));
  const within = (lists: readonly (readonly number[])[]): number[][] =>
    ids.map((id) => lists[id].flatMap((other) => indexOf.get(other) ?? []));
  return {
    graph: { before: within(before), after: within(after) },
    streams: ids.map((id) => program.operators[id].stream),
    cost: Float64Array.from(ids, (id) => cost[id]),
  };
}
