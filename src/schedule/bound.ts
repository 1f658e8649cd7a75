/** How fast any schedule of a program could be at best. */
import { graphOf } from "../program/graph.js";
import { STREAMS, type Stream } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { type Costs, costArray } from "../simulate/costs.js";
import { type Placed, placeSegment } from "./exhaustive.js";
import { heads, tails } from "./list-schedule.js";
import { type Segment, type SegmentProblem, problemOf, segmentsOf } from "./segments.js";

/** A segment, the best order found for it, and a time that no order of it goes below. */
export interface PlacedSegment {
  readonly segment: Segment;
  readonly placed: Placed | undefined;
  readonly boundMs: number;
}

/** Places every segment; equal segments (the pairs of a model) are placed once. */
export function placeSegments(program: Program, cost: Float64Array): PlacedSegment[] {
  const known = new Map<string, Omit<PlacedSegment, "segment">>();
  return segmentsOf(program).segments.map((segment) => {
    const problem = problemOf(program, segment, cost);
    const signature = JSON.stringify([problem.streams, [...problem.cost], problem.graph.before]);
    let found = known.get(signature);
    if (found === undefined) {
      const placed = placeSegment(problem);
      const boundMs = placed?.isOptimal ? placed.ms : streamBound(problem);
      known.set(signature, (found = { placed, boundMs }));
    }
    return { segment, ...found };
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
  const total = segments.reduce((sum, { boundMs }) => sum + boundMs, 0);
  const [head, tail] = [new Float64Array(cost.length), new Float64Array(cost.length)];
  let passed = 0;
  for (const { segment, boundMs } of segments) {
    for (const id of segment.ids) head[id] = passed;
    passed += boundMs;
    for (const id of segment.ids) tail[id] = total - passed + cost[id];
  }
  const streams = program.operators.map((op) => op.stream);
  return Math.max(total, streamBound({ graph: graphOf(program), streams, cost }, head, tail));
}

/** The longest that a stream alone takes; `head` and `tail` as for `heads` and `tails`. */
function streamBound(
  { graph, streams, cost }: SegmentProblem,
  head?: Float64Array,
  tail?: Float64Array,
): number {
  const [before, after] = [heads(graph, cost, head), tails(graph, cost, tail)];
  const jobs = (stream: Stream): Job[] =>
    streams.flatMap((of, i) =>
      of === stream ? [{ head: before[i], ms: cost[i], after: after[i] - cost[i] }] : [],
    );
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
function oneMachine(jobs: readonly Job[]): number {
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
