/** When a rank computed, sent and waited in a step: what small pictures of it need, read back from a trace. */
import type { ChromeTrace, TraceEvent } from "./chrome-trace.js";
import type { Span } from "./lanes.js";

/** Times in milliseconds from the start of the step, in order and apart from each other. */
export interface StepLanes {
  readonly compute: readonly Span[];
  /** At least one transfer was under way. */
  readonly network: readonly Span[];
  /** Compute stood still for a transfer. */
  readonly waiting: readonly Span[];
  readonly stepMs: number;
}

/** Spans closer than this are drawn as one. */
const TOUCH_MS = 1e-3;

/**
 * Of the first step of a trace that `chromeTrace` made: what was measured, where anything was.
 * @param rank in the world; one that the trace has not has empty lanes
 */
export function stepLanes({ traceEvents }: Pick<ChromeTrace, "traceEvents">, rank: number): StepLanes {
  const runs = traceEvents.filter(({ ph, pid }) => ph === "X" && pid === rank);
  const step = runs[0]?.args?.step;
  const first = runs.filter(({ args }) => args?.step === step);
  const lane = (name: string): Span[] =>
    union(first.filter(({ cat }) => cat?.split(",")[0] === name).map(spanOf));
  return {
    compute: lane("compute"),
    network: lane("network"),
    waiting: lane("exposed"),
    stepMs: first.reduce((latest, event) => Math.max(latest, spanOf(event).end), 0),
  };
}

function spanOf({ ts = 0, dur = 0 }: TraceEvent): Span {
  return { start: ts / 1e3, end: (ts + dur) / 1e3 };
}

function union(spans: readonly Span[]): Span[] {
  const joined: { start: number; end: number }[] = [];
  for (const { start, end } of spans.toSorted((a, b) => a.start - b.start)) {
    const last = joined.at(-1);
    if (last !== undefined && start <= last.end + TOUCH_MS) last.end = Math.max(last.end, end);
    else joined.push({ start, end });
  }
  return joined;
}
