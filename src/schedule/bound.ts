/** How fast any schedule of a program could be at best. */
import { graphOf } from "../program/graph.js";
import { STREAMS, type Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { type Costs, costArray } from "../simulate/costs.js";
import { type Placed, placeSegment } from "./exhaustive.js";
import { type Segment, segmentsOf } from "./segments.js";

/** A segment, the best order found for it, and a time that no order of it goes below. */
export interface PlacedSegment {
  readonly segment: Segment;
  readonly placed: Placed | undefined;
  readonly boundMs: number;
}

/** Places every segment; equal segments (the pairs of a model) are placed once. */
export function placeSegments(program: Program, cost: Float64Array): PlacedSegment[] {
  const { before } = graphOf(program);
  const known = new Map<string, Omit<PlacedSegment, "segment">>();
  return segmentsOf(program).segments.map((segment) => {
    const local = new Map(segment.ids.map((id, i) => [id, i]));
    const signature = JSON.stringify(
      segment.ids.map((id) => [
        program.operators[id].stream,
        cost[id],
        before[id].flatMap((b) => local.get(b) ?? []),
      ]),
    );
    let plan = known.get(signature);
    if (plan === undefined) {
      const placed = placeSegment(program, segment, cost);
      const boundMs = placed?.isOptimal ? placed.ms : segmentBound(program, segment, cost);
      known.set(signature, (plan = { placed, boundMs }));
    }
    return { segment, ...plan };
  });
}

/**
 * The longest of compute, network and the chain of dependencies.
 * @returns milliseconds that no schedule of the program goes below at these costs
 */
export function lowerBound(program: Program, costs: Costs): number {
  const cost = costArray(program, costs);
  return programBound(program, cost, placeSegments(program, cost));
}

/**
 * A lower bound for the whole program (method 7.7): segments follow each other, so the sum of their bounds is one. For each
 * stream alone there is another: its operators run one at a time, none before what leads to it has run, and what depends on
 * the last must still follow.
 */
export function programBound(
  program: Program,
  cost: Float64Array,
  segments: readonly PlacedSegment[],
): number {
  const { before, after } = graphOf(program);
  const count = before.length;
  const total = segments.reduce((sum, { boundMs }) => sum + boundMs, 0);
  const [head, tail] = [new Float64Array(count), new Float64Array(count)];
  let passed = 0;
  for (const { segment, boundMs } of segments) {
    for (const id of segment.ids) head[id] = passed;
    passed += boundMs;
    for (const id of segment.ids) tail[id] = total - passed + cost[id];
  }
  for (let id = 0; id < count; id++)
    for (const b of before[id]) head[id] = Math.max(head[id], head[b] + cost[b]);
  for (let id = count - 1; id >= 0; id--) {
    tail[id] = Math.max(tail[id], cost[id]);
    for (const next of after[id]) tail[id] = Math.max(tail[id], tail[next] + cost[id]);
  }
  const jobs = (stream: Stream): Job[] =>
    program.operators
      .filter((op) => op.stream === stream)
      .map(({ id }) => ({ head: head[id], ms: cost[id], after: tail[id] - cost[id] }));
  return Math.max(total, ...STREAMS.map((stream) => oneMachine(jobs(stream))));
}

function segmentBound(program: Program, { ids }: Segment, cost: Float64Array): number {
  const { before } = graphOf(program);
  const local = new Set(ids);
  const [head, tail] = [new Map<number, number>(), new Map<number, number>()];
  for (const id of ids) {
    let start = 0;
    for (const b of before[id]) if (local.has(b)) start = Math.max(start, (head.get(b) as number) + cost[b]);
    head.set(id, start);
  }
  for (const id of ids.toReversed()) {
    const own = Math.max(tail.get(id) ?? 0, 0);
    tail.set(id, own);
    for (const b of before[id]) if (local.has(b)) tail.set(b, Math.max(tail.get(b) ?? 0, own + cost[id]));
  }
  const jobs = (stream: Stream): Job[] =>
    ids
      .filter((id) => program.operators[id].stream === stream)
      .map((id) => ({ head: head.get(id) as number, ms: cost[id], after: tail.get(id) as number }));
  return Math.max(...STREAMS.map((stream) => oneMachine(jobs(stream))));
}

interface Job {
  /** Earliest start. */
  readonly head: number;
  /** Duration. */
  readonly ms: number;
  /** Time that must pass between its end and the end of all. */
  readonly after: number;
}

/**
 * Jackson's rule: on one machine, always run the released job with the longest time after it, and interrupt it when a longer
 * one is released. No order without interruptions ends sooner, so this end is a lower bound.
 */
export function oneMachine(jobs: readonly Job[]): number {
  const waiting = jobs.toSorted((a, b) => a.head - b.head);
  const open: { left: number; after: number }[] = [];
  let clock = 0;
  let end = 0;
  for (let next = 0; next < waiting.length || open.length > 0;) {
    if (open.length === 0) clock = Math.max(clock, waiting[next].head);
    while (next < waiting.length && waiting[next].head <= clock) {
      const { ms, after } = waiting[next++];
      const at = open.findIndex((job) => job.after > after);
      open.splice(at < 0 ? open.length : at, 0, { left: ms, after });
    }
    const job = open[open.length - 1];
    const until = next < waiting.length ? waiting[next].head : Infinity;
    const run = Math.min(job.left, until - clock);
    clock += run;
    job.left -= run;
    if (job.left <= 1e-12) {
      open.pop();
      end = Math.max(end, clock + job.after);
    }
  }
  return end;
}
