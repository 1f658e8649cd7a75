import type { ExposedInterval, Timeline, TimelineEvent, TimelineSummary } from "./timeline.js";

/** Total length of the union of intervals. */
export function unionLength(intervals: readonly { startMs: number; endMs: number }[]): number {
  let total = 0;
  let reached = -Infinity;
  for (const { startMs, endMs } of [...intervals].sort((a, b) => a.startMs - b.startMs)) {
    total += Math.max(0, endMs - Math.max(startMs, reached));
    reached = Math.max(reached, endMs);
  }
  return total;
}

/** Figures of one step; see TimelineSummary. A transfer that sends no bytes to anyone is not communication. */
export function summarize(
  events: readonly TimelineEvent[],
  exposed: readonly ExposedInterval[],
  numRanks: number,
  stepMs: number,
): TimelineSummary {
  let [computeMs, communicationMs, exposedMs] = [0, 0, 0];
  for (const { stream, startMs, endMs } of events) if (stream === "compute") computeMs += endMs - startMs;
  for (const { startMs, endMs } of exposed) exposedMs += endMs - startMs;
  const byRank = new Map<number, TimelineEvent[]>();
  for (const event of events) {
    if (event.stream !== "network" || !event.bytes) continue;
    const list = byRank.get(event.rank);
    if (list === undefined) byRank.set(event.rank, [event]);
    else list.push(event);
  }
  for (const list of byRank.values()) communicationMs += unionLength(list);
  const mean = (x: number): number => x / numRanks;
  return {
    stepMs,
    computeMs: mean(computeMs),
    communicationMs: mean(communicationMs),
    exposedMs: mean(exposedMs),
    overlapShare: communicationMs === 0 ? 1 : Math.max(0, 1 - exposedMs / communicationMs),
  };
}

export function makeTimeline(
  kind: Timeline["kind"],
  numRanks: number,
  events: readonly TimelineEvent[],
  exposed: readonly ExposedInterval[],
): Timeline {
  const stepMs = events.reduce((latest, event) => Math.max(latest, event.endMs), 0);
  return { kind, numRanks, events, exposed, summary: summarize(events, exposed, numRanks, stepMs) };
}
