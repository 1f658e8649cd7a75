/**
 * Chrome trace events (opens in Perfetto): one process per rank, one thread per stream and lane, arrows along the rows'
 * way. Viewers take events of one thread for calls within calls: there, none may begin within another and end after it.
 */
import { STREAMS } from "../program/operator.js";
import type { OperatorClass } from "../program/work.js";
import { type Span, assignLanes } from "./lanes.js";
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
/** Threads of a rank: its streams, and the intervals in which compute stood still. */
const THREADS = [...STREAMS, "exposed"] as const;

/** Several steps one after another on one time axis; predicted ranks are processes after the measured ones. */
export function chromeTrace(steps: readonly TitledTimelines[]): ChromeTrace {
  const traceEvents: TraceEvent[] = [];
  const numRanks = Math.max(0, ...steps.map((s) => s.predicted.numRanks));
  const hasMeasured = steps.some((s) => s.measured !== undefined);
  const named = new Set<number>();
  const lanes = new Set<string>();
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
      const events = eventsOf(timeline, { title, firstPid, offset, nextFlow });
      for (const { ph, pid, tid } of events) {
        if (ph !== "X" || tid < THREADS.length || lanes.has(`${pid} ${tid}`)) continue;
        lanes.add(`${pid} ${tid}`);
        traceEvents.push(...threadName(pid, tid));
      }
      traceEvents.push(...events);
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
    ...THREADS.flatMap((_, tid) => threadName(pid, tid)),
  ];
}

/** "network", and below it "network 2" and so on where several transfers are under way. */
function threadName(pid: number, tid: number): TraceEvent[] {
  const [thread, lane] = [tid % THREADS.length, Math.floor(tid / THREADS.length)];
  const name = `${THREADS[thread]}${lane === 0 ? "" : ` ${lane + 1}`}`;
  const order = thread * MOST_LANES + lane;
  return [
    { ph: "M", name: "thread_name", pid, tid, args: { name } },
    { ph: "M", name: "thread_sort_index", pid, tid, args: { sort_index: order } },
  ];
}

/** For the order of threads only. */
const MOST_LANES = 1_000;

/**
 * Ticks of an eighth of a microsecond: sums of such numbers are exact, also in nanoseconds, and two times that do not cross
 * do not cross when they are rounded.
 */
function toTick(us: number): number {
  return Math.round(us * 8) / 8;
}

function eventsOf(
  timeline: Timeline,
  at: { title: string; firstPid: number; offset: number; nextFlow: number },
): TraceEvent[] {
  const us = (ms: number): number => toTick(at.offset + ms * 1e3);
  const args = { step: at.title };
  const runs = spans(timeline.events, ({ stream }) => stream, us).map((span, i): TraceEvent => {
    const { rank, name, stream, pass, bytes } = timeline.events[i];
    const facts = bytes === undefined ? args : { ...args, bytes };
    return { ph: "X", name, cat: `${stream},${pass}`, pid: at.firstPid + rank, ...span, args: facts };
  });
  const waits = spans(timeline.exposed, () => "exposed", us).map((span, i): TraceEvent => {
    const { rank, waitingFor } = timeline.exposed[i];
    return {
      ph: "X",
      name: `waiting for ${waitingFor}`,
      cat: "exposed",
      pid: at.firstPid + rank,
      ...span,
      args,
    };
  });
  const arrows = flows(timeline.events).flatMap(([from, to], i): TraceEvent[] => {
    const base = { name: "rows", cat: "flow", id: at.nextFlow + i, args };
    const end = ({ pid, tid, ts }: TraceEvent): Pick<TraceEvent, "pid" | "tid" | "ts"> => ({ pid, tid, ts });
    return [
      { ph: "s", ...base, ...end(runs[from]) },
      { ph: "f", bp: "e", ...base, ...end(runs[to]) },
    ];
  });
  return [...runs, ...waits, ...arrows, ...bytesUnderWay(timeline, at.firstPid, us)];
}

/** Times of events in microseconds, and a thread for each: lanes where events of one rank and thread overlap. */
function spans<E extends { readonly rank: number; readonly startMs: number; readonly endMs: number }>(
  events: readonly E[],
  threadOf: (event: E) => (typeof THREADS)[number],
  us: (ms: number) => number,
): { readonly tid: number; readonly ts: number; readonly dur: number }[] {
  const groups = new Map<string, number[]>();
  events.forEach((event, i) => {
    const key = `${event.rank} ${threadOf(event)}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [i]);
    else group.push(i);
  });
  const times = events.map(({ startMs, endMs }): Span => ({ start: us(startMs), end: us(endMs) }));
  const tids = new Array<number>(events.length);
  for (const group of groups.values()) {
    const { lanes } = assignLanes(group.map((i) => times[i]));
    group.forEach((i, k) => (tids[i] = lanes[k] * THREADS.length + THREADS.indexOf(threadOf(events[i]))));
  }
  return times.map(({ start, end }, i) => ({ tid: tids[i], ts: start, dur: end - start }));
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
