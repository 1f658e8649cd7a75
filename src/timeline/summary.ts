import type { ExposedInterval, Timeline, TimelineEvent, TimelineSummary } from "./timeline.js";

type Span = Pick<TimelineEvent, "stream" | "bytes" | "issuedMs" | "startMs" | "endMs">;

/** The end of a transfer of one rank, and how long it waited for other ranks to come to it, the way being free. */
interface Arrival {
  readonly endMs: number;
  readonly lateMs: number;
}

/** Clocks of a wait and of what ended it may differ by this much. */
const CLOCK_MS = 0.01;

/**
 * Adds up a step as it passes. Per rank, transfers come in the order they were started, and before the waits for them.
 * A transfer that sends no bytes to anyone is not communication.
 */
export class StepTally {
  #computeMs = 0;
  #communicationMs = 0;
  #exposedMs = 0;
  #lateMs = 0;
  readonly #reached: Float64Array;
  /** By rank, in the order of their ends. */
  readonly #arrivals: readonly Arrival[][];

  constructor(readonly numRanks: number) {
    this.#reached = new Float64Array(numRanks).fill(-Infinity);
    this.#arrivals = Array.from({ length: numRanks }, () => []);
  }

  ran(rank: number, { stream, bytes, issuedMs, startMs, endMs }: Span): void {
    if (stream === "compute") this.#computeMs += endMs - startMs;
    // Storage needs no other rank, so nobody can be late to it.
    if (stream === "storage") this.#arrive(rank, { endMs, lateMs: 0 });
    if (stream !== "network") return;
    const reached = this.#reached[rank];
    const lateMs = Math.max(0, startMs - Math.max(issuedMs ?? startMs, reached));
    this.#arrive(rank, { endMs, lateMs });
    if (bytes) this.#communicationMs += Math.max(0, endMs - Math.max(startMs, reached));
    this.#reached[rank] = Math.max(reached, endMs);
  }

  /** Transfers of different groups or links may arrive in another order than they were started in. */
  #arrive(rank: number, arrival: Arrival): void {
    const arrivals = this.#arrivals[rank];
    let at = arrivals.length;
    while (at > 0 && arrivals[at - 1].endMs > arrival.endMs) at--;
    if (at === arrivals.length) arrivals.push(arrival);
    else arrivals.splice(at, 0, arrival);
  }

  /** A wait ends with the arrival of a transfer: without that transfer's lateness it would have ended earlier. */
  stoodStill(rank: number, startMs: number, endMs: number): void {
    const awaited = this.#arrivals[rank].findLast((arrival) => arrival.endMs <= endMs + CLOCK_MS);
    const late = Math.min(endMs - startMs, awaited?.lateMs ?? 0);
    this.#lateMs += late;
    this.#exposedMs += endMs - startMs - late;
  }

  /** Means over ranks. */
  summary(stepMs: number): TimelineSummary {
    const mean = (x: number): number => x / this.numRanks;
    return {
      stepMs,
      computeMs: mean(this.#computeMs),
      communicationMs: mean(this.#communicationMs),
      exposedMs: mean(this.#exposedMs),
      lateMs: mean(this.#lateMs),
      overlapShare: overlapShare(this.#exposedMs, this.#communicationMs),
    };
  }
}

function overlapShare(exposedMs: number, communicationMs: number): number {
  return communicationMs === 0 ? 1 : Math.max(0, 1 - exposedMs / communicationMs);
}

/** One summary of many: each time combined by itself (mean, median, sum), and the share that follows from them. */
export function combined(
  all: readonly TimelineSummary[],
  combine: (values: readonly number[]) => number,
): TimelineSummary {
  const of = (key: Exclude<keyof TimelineSummary, "overlapShare">): number =>
    combine(all.map((summary) => summary[key]));
  const [communicationMs, exposedMs] = [of("communicationMs"), of("exposedMs")];
  return {
    stepMs: of("stepMs"),
    computeMs: of("computeMs"),
    communicationMs,
    exposedMs,
    lateMs: of("lateMs"),
    overlapShare: overlapShare(exposedMs, communicationMs),
  };
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
  const indices = new Map<number, number>();
  const indexOf = (rank: number): number => {
    const known = indices.get(rank) ?? indices.size;
    indices.set(rank, known);
    return known;
  };
  for (const event of events.toSorted((a, b) => a.startMs - b.startMs)) tally.ran(indexOf(event.rank), event);
  for (const { rank, startMs, endMs } of exposed) tally.stoodStill(indexOf(rank), startMs, endMs);
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

/** The same at other times. */
export function shifted<T extends Pick<TimelineEvent, "startMs" | "endMs" | "issuedMs">>(
  list: readonly T[],
  byMs: number,
): T[] {
  return list.map((e) => ({
    ...e,
    startMs: e.startMs + byMs,
    endMs: e.endMs + byMs,
    ...(e.issuedMs === undefined ? {} : { issuedMs: e.issuedMs + byMs }),
  }));
}

/** Timelines of one kind one after another. */
export function joinTimelines(parts: readonly Timeline[]): Timeline {
  const [events, exposed]: [TimelineEvent[], ExposedInterval[]] = [[], []];
  let offset = 0;
  for (const part of parts) {
    events.push(...shifted(part.events, offset));
    exposed.push(...shifted(part.exposed, offset));
    offset += part.summary.stepMs;
  }
  return makeTimeline(parts[0].kind, parts[0].numRanks, events, exposed);
}
