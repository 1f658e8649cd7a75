/** The timeline of a step on all ranks, from what each rank measured of it. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { barrier, gatherJson } from "../comm/collectives.js";
import type { Communicator } from "../comm/communicator.js";
import { nowMs } from "../core/clock.js";
import { makeTimeline, shifted } from "../timeline/summary.js";
import type { ExposedInterval, Timeline, TimelineEvent } from "../timeline/timeline.js";

/** One program's run on this rank; events count from `startMs` on this machine's clock. */
export interface MeasuredRun {
  readonly events: readonly TimelineEvent[];
  readonly exposed: readonly ExposedInterval[];
  readonly startMs: number;
}

/** Runs one after another, e.g. the micro-batches of a step, on all ranks; times from when the first rank began. */
export function gatherTimeline(
  world: Communicator,
  runs: readonly MeasuredRun[],
  clockOffsetMs: number,
): Timeline {
  const all = gatherJson(
    world,
    runs.map((run) => ({ ...run, startMs: run.startMs - clockOffsetMs })),
    "timeline",
  ).flat();
  const originMs = Math.min(...all.map((run) => run.startMs));
  return makeTimeline(
    "measured",
    world.size,
    all.flatMap((run) => shifted(run.events, run.startMs - originMs)),
    all.flatMap((run) => shifted(run.exposed, run.startMs - originMs)),
  );
}

const ROUNDS = 5;

/**
 * How far this rank's clock is ahead of rank 0's. Ranks of one machine share its clock; between machines it is
 * estimated from when each leaves a barrier, to within the network's latency.
 */
export function clockOffset(world: Communicator): number {
  const machines = gatherJson(world, machineId(), "machine");
  const offsets = Array.from({ length: ROUNDS }, () => {
    barrier(world, "clock").wait();
    const left = gatherJson(world, nowMs(), "clock");
    return left[world.rank] - left[0];
  }).sort((a, b) => a - b);
  return machines[world.rank] === machines[0] ? 0 : offsets[ROUNDS >> 1];
}

/** The monotonic clock belongs to one boot of one machine, however many hosts it pretends to be. */
function machineId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8");
  } catch {
    return hostname();
  }
}
