/** Chrome trace events (opens in Perfetto): one process per rank, one thread per stream. */
import { STREAMS } from "../program/program.js";
import type { Timeline, TimelineEvent } from "../simulate/timeline.js";

export interface TitledTimelines {
  readonly title: string;
  readonly measured: Timeline;
  readonly predicted: Timeline;
}

interface TraceEvent {
  readonly ph: "X" | "M" | "s" | "f";
  readonly name: string;
  readonly cat?: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly id?: number;
  readonly bp?: "e";
  readonly args?: Readonly<Record<string, unknown>>;
}

const GAP_US = 2_000;
/** Thread of the intervals in which compute stood still. */
const EXPOSED_THREAD = STREAMS.length;

/** Several steps one after another on one time axis; times in microseconds. */
export function chromeTrace(steps: readonly TitledTimelines[]): {
  traceEvents: TraceEvent[];
  displayTimeUnit: "ms";
} {
  const traceEvents: TraceEvent[] = [];
  const numRanks = Math.max(0, ...steps.map((s) => s.measured.numRanks));
  for (let rank = 0; rank < numRanks; rank++) {
    traceEvents.push({ ph: "M", name: "process_name", pid: rank, tid: 0, args: { name: `rank ${rank}` } });
    [...STREAMS, "exposed"].forEach((stream, tid) =>
      traceEvents.push({ ph: "M", name: "thread_name", pid: rank, tid, args: { name: stream } }),
    );
  }
  let offset = 0;
  let nextFlow = 1;
  for (const { title, measured } of steps) {
    const at = (ms: number): number => offset + ms * 1e3;
    for (const e of measured.events)
      traceEvents.push({
        ph: "X",
        name: e.name,
        cat: `${e.stream},${e.pass}`,
        pid: e.rank,
        tid: STREAMS.indexOf(e.stream),
        ts: at(e.startMs),
        dur: (e.endMs - e.startMs) * 1e3,
        args: { step: title, ...(e.bytes === undefined ? {} : { bytes: e.bytes }) },
      });
    for (const e of measured.exposed)
      traceEvents.push({
        ph: "X",
        name: `waiting for ${e.waitingFor}`,
        cat: "exposed",
        pid: e.rank,
        tid: EXPOSED_THREAD,
        ts: at(e.startMs),
        dur: (e.endMs - e.startMs) * 1e3,
        args: { step: title },
      });
    for (const [from, to] of flows(measured.events)) {
      const id = nextFlow++;
      const base = { name: "rows", cat: "flow", id, args: { step: title } };
      traceEvents.push({
        ph: "s",
        ...base,
        pid: from.rank,
        tid: STREAMS.indexOf(from.stream),
        ts: at(from.startMs),
      });
      traceEvents.push({
        ph: "f",
        bp: "e",
        ...base,
        pid: to.rank,
        tid: STREAMS.indexOf(to.stream),
        ts: at(to.startMs),
      });
    }
    offset += measured.summary.stepMs * 1e3 + GAP_US;
  }
  return { traceEvents, displayTimeUnit: "ms" };
}

/** dispatch → expert → combine of each rank, layer and chunk, forward and backward. */
export function flows(events: readonly TimelineEvent[]): [TimelineEvent, TimelineEvent][] {
  const byName = new Map(events.map((e) => [`${e.rank} ${e.name}`, e]));
  const pairs: [TimelineEvent, TimelineEvent][] = [];
  for (const expert of events) {
    if (!/\bexpert\b/.test(expert.name) || expert.stream !== "compute") continue;
    const sibling = (part: string): TimelineEvent | undefined =>
      byName.get(`${expert.rank} ${expert.name.replace("expert", part)}`);
    const [first, last] = expert.pass === "forward" ? ["dispatch", "combine"] : ["combine", "dispatch"];
    const [into, out] = [sibling(first), sibling(last)];
    if (into !== undefined) pairs.push([into, expert]);
    if (out !== undefined) pairs.push([expert, out]);
  }
  return pairs;
}
