import type { ExposedInterval, Timeline, TimelineEvent, TimelineSummary } from "./timeline.js";

type Span = Pick<TimelineEvent, "stream" | "bytes" | "startMs" | "endMs">;

/**
 * Adds up a step as it passes. Per rank, transfers come in the order they were started, so the time in which at
 * least one is in flight needs no list of them. A transfer that sends no bytes to anyone is not communication.
 */
export class StepTally {
  #computeMs = 0;
  #communicationMs = 0;
  #exposedMs = 0;
  readonly #reached: Float64Array;

  constructor(readonly numRanks: number) {
    this.#reached = new Float64Array(numRanks).fill(-Infinity);
  }

  ran(rank: number, { stream, bytes, startMs, endMs }: Span): void {
    if (stream === "compute") this.#computeMs += endMs - startMs;
    if (stream !== "network" || !bytes) return;
    this.#communicationMs += Math.max(0, endMs - Math.max(startMs, this.#reached[rank]));
    this.#reached[rank] = Math.max(this.#reached[rank], endMs);
  }

  stoodStill(startMs: number, endMs: number): void {
    this.#exposedMs += endMs - startMs;
  }

  /** Means over ranks. */
  summary(stepMs: number): TimelineSummary {
    const mean = (x: number): number => x / this.numRanks;
    return {
      stepMs,
      computeMs: mean(this.#computeMs),
      communicationMs: mean(this.#communicationMs),
      exposedMs: mean(this.#exposedMs),
      overlapShare:
        this.#communicationMs === 0 ? 1 : Math.max(0, 1 - this.#exposedMs / this.#communicationMs),
    };
  }
}

/** Figures of one step; see TimelineSummary. */
export function summarize(
  events: readonly TimelineEvent[],
  exposed: readonly ExposedInterval[],
  numRanks: number,
  stepMs: number,
): TimelineSummary {
  // Events name their rank in the world; a caller with one rank's events counts them as rank 0.
  const tally = new StepTally(numRanks);
  const index = new Map<number, number>();
  for (const event of events.toSorted((a, b) => a.startMs - b.startMs)) {
    if (!index.has(event.rank)) index.set(event.rank, index.size);
    tally.ran(index.get(event.rank) as number, event);
  }
  for (const { startMs, endMs } of exposed) tally.stoodStill(startMs, endMs);
  return tally.summary(stepMs);
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

/** Timelines of one kind one after another. */
export function joinTimelines(parts: readonly Timeline[]): Timeline {
  const [events, exposed]: [TimelineEvent[], ExposedInterval[]] = [[], []];
  let offset = 0;
  for (const part of parts) {
    for (const e of part.events) events.push({ ...e, startMs: e.startMs + offset, endMs: e.endMs + offset });
    for (const e of part.exposed)
      exposed.push({ ...e, startMs: e.startMs + offset, endMs: e.endMs + offset });
    offset += part.summary.stepMs;
  }
  return makeTimeline(parts[0].kind, parts[0].numRanks, events, exposed);
}
