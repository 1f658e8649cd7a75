/** What a process holds in memory while something runs: whether it grows. */
import { median } from "../core/statistics.js";

/** Bytes. */
export interface ResidentMemory {
  readonly start: number;
  /** Medians of the first and of the last quarter of what was seen after the first 10 s: collections of garbage come and go. */
  readonly early: number;
  readonly late: number;
  readonly most: number;
}

const EVERY_MS = 250;
/** Until then memory is touched for the first time. */
const WARM_MS = 10_000;

/** @param durationMs of what is watched; later samples do not count */
export async function watchMemory<T>(
  durationMs: number,
  run: () => Promise<T>,
): Promise<{ readonly result: T; readonly memory: ResidentMemory }> {
  const samples = [process.memoryUsage.rss()];
  const most = Math.ceil(durationMs / EVERY_MS);
  const timer = setInterval(() => {
    if (samples.length < most) samples.push(process.memoryUsage.rss());
  }, EVERY_MS);
  try {
    return { result: await run(), memory: residentMemory(samples) };
  } finally {
    clearInterval(timer);
  }
}

/** @param samples one every 250 ms; of short runs all count */
export function residentMemory(samples: readonly number[]): ResidentMemory {
  const warm = samples.slice(WARM_MS / EVERY_MS);
  const counted = warm.length === 0 ? samples : warm;
  const quarter = Math.ceil(counted.length / 4);
  return {
    start: samples[0],
    early: median(counted.slice(0, quarter)),
    late: median(counted.slice(-quarter)),
    most: samples.reduce((a, b) => Math.max(a, b)),
  };
}
