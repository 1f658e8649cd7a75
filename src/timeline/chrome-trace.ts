/** Chrome trace events (opens in Perfetto): one process per rank, one thread per stream, arrows along the rows' way. */
import { STREAMS } from "../program/operator.js";
import type { OperatorClass } from "../program/work.js";
import type { Timeline, TimelineEvent } from "./timeline.js";

/** A step under a name; what is only predicted has nothing measured. */
export interface TitledTimelines {
  readonly title: string;
  readonly measured?: Timeline;
  readonly predicted: Timeline;
}

/** One event of the trace; times in microseconds. */
export interface TraceEvent {
  readonly ph: "X" | "M" | "s" | "f" | "C";
  readonly name: string;
  readonly cat?: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds. */
  readonly ts?: number;
  readonly dur?: number;
  readonly id?: number;
  readonly bp?: "e";
  readonly args?: Readonly<Record<string, unknown>>;
}

/** Chrome's trace format, as far as it is used here. */
export interface ChromeTrace {
  readonly traceEvents: readonly TraceEvent[];
  readonly displayTimeUnit: "ms";
}

const GAP_US = 2_000;
/** Thread of the intervals in which compute stood still. */
const EXPOSED_THREAD = STREAMS.length;

/** Several steps one after another on one time axis; predicted ranks are processes after the measured ones. */
export function chromeTrace(steps: readonly TitledTimelines[]): ChromeTrace {
  const traceEvents: TraceEvent[] = [];
  const numRanks = Math.max(0, ...steps.map((s) => s.predicted.numRanks));
  const hasMeasured = steps.some((s) => s.measured !== undefined);
  const named = new Set<number>();
  let offset = 0;
  let nextFlow = 1;
  for (const { title, measured, predicted } of steps) {
    for (const timeline of [measured, predicted]) {
      if (timeline === undefined) continue;
      const isSecond = hasMeasured && timeline.kind === "predicted";
      const firstPid = isSecond ? numRanks : 0;
      for (let rank = 0; rank < timeline.numRanks; rank++)
        if (!named.has(firstPid + rank)) {
          named.add(firstPid + rank);
          traceEvents.push(...names(firstPid + rank, `rank ${rank}${isSecond ? ", predicted" : ""}`));
        }
      traceEvents.push(...eventsOf(timeline, { title, firstPid, offset, nextFlow }));
      nextFlow += timeline.events.length * 2;
    }
    const longest = Math.max(measured?.summary.stepMs ?? 0, predicted.summary.stepMs);
    offset += longest * 1e3 + GAP_US;
  }
  return { traceEvents, displayTimeUnit: "ms" };
}

function names(pid: number, process: string): TraceEvent[] {
  return [
    { ph: "M", name: "process_name", pid, tid: 0, args: { name: process } },
    { ph: "M", name: "process_sort_index", pid, tid: 0, args: { sort_index: pid } },
    ...[...STREAMS, "exposed"].map((stream, tid): TraceEvent => ({
      ph: "M",
      name: "thread_name",
      pid,
      tid,
      args: { name: stream },
    })),
  ];
}

function eventsOf(
  timeline: Timeline,
  at: { title: string; firstPid: number; offset: number; nextFlow: number },
): TraceEvent[] {
  const us = (ms: number): number => at.offset + ms * 1e3;
  const place = (e: TimelineEvent): { pid: number; tid: number } => ({
    pid: at.firstPid + e.rank,
    tid: STREAMS.indexOf(e.stream),
  });
  const span = (e: { startMs: number; endMs: number }): { ts: number; dur: number } => ({
    ts: us(e.startMs),
    dur: (e.endMs - e.startMs) * 1e3,
  });
  const runs = timeline.events.map((e): TraceEvent => ({
    ph: "X",
    name: e.name,
    cat: `${e.stream},${e.pass}`,
    ...place(e),
    ...span(e),
    args: { step: at.title, ...(e.bytes === undefined ? {} : { bytes: e.bytes }) },
  }));
  const waits = timeline.exposed.map((e): TraceEvent => ({
    ph: "X",
    name: `waiting for ${e.waitingFor}`,
    cat: "exposed",
    pid: at.firstPid + e.rank,
    tid: EXPOSED_THREAD,
    ...span(e),
    args: { step: at.title },
  }));
  const arrows = flows(timeline.events).flatMap(([from, to], i): TraceEvent[] => {
    const [source, target] = [timeline.events[from], timeline.events[to]];
    const base = { name: "rows", cat: "flow", id: at.nextFlow + i, args: { step: at.title } };
    return [
      { ph: "s", ...base, ...place(source), ts: us(source.startMs) },
      { ph: "f", bp: "e", ...base, ...place(target), ts: us(target.startMs) },
    ];
  });
  return [...runs, ...waits, ...arrows, ...bytesUnderWay(timeline, at.firstPid, us)];
}

/** A counter per rank: bytes on their way to other ranks. */
function bytesUnderWay(timeline: Timeline, firstPid: number, us: (ms: number) => number): TraceEvent[] {
  const changes = timeline.events
    .filter((e) => e.stream === "network" && e.bytes)
    .flatMap(({ rank, startMs, endMs, bytes = 0 }) => [
      { rank, ms: startMs, bytes },
      { rank, ms: endMs, bytes: -bytes },
    ])
    .sort((a, b) => a.ms - b.ms);
  const now = new Map<number, number>();
  return changes.map(({ rank, ms, bytes }): TraceEvent => {
    const sum = (now.get(rank) ?? 0) + bytes;
    now.set(rank, sum);
    const pid = firstPid + rank;
    return { ph: "C", name: "bytes under way", pid, tid: 0, ts: us(ms), args: { bytes: sum } };
  });
}

/**
 * dispatch → expert → combine of each rank, routed branch and chunk, forward and backward, as pairs of indices into the
 * events. An operator that runs once per micro-batch is followed run by run.
 */
export function flows(events: readonly TimelineEvent[]): [number, number][] {
  const runs = new Map<string, number[]>();
  const keyOf = (e: TimelineEvent, of: OperatorClass): string =>
    `${e.rank} ${e.branch} ${e.chunk ?? ""} ${e.pass} ${of}`;
  events.forEach((e, i) => {
    if (e.branch === undefined || e.half === "weight") return;
    const key = keyOf(e, e.class);
    const list = runs.get(key);
    if (list === undefined) runs.set(key, [i]);
    else list.push(i);
  });
  const pairs: [number, number][] = [];
  for (const list of runs.values()) {
    const expert = events[list[0]];
    if (expert.class !== "expert") continue;
    const [first, last] = expert.pass === "forward" ? DOWN : UP;
    const [into, out] = [runs.get(keyOf(expert, first)) ?? [], runs.get(keyOf(expert, last)) ?? []];
    list.forEach((index, k) => {
      if (into[k] !== undefined) pairs.push([into[k], index]);
      if (out[k] !== undefined) pairs.push([index, out[k]]);
    });
  }
  return pairs;
}

/** Transfers before and after the experts, forward and backward. */
const DOWN = ["dispatch", "combine"] as const;
const UP = ["combine", "dispatch"] as const;
