/** Latencies of many requests, or tokens, in a few figures. */
import { mean } from "../core/statistics.js";

/** Of samples in milliseconds, or any other unit, which the figures then have. */
export interface Percentiles {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * A percentile is the smallest sample that so many percent of all do not exceed: one that was measured, never less than what
 * it stands for.
 * @returns undefined where there are no samples
 */
export function percentiles(samples: readonly number[]): Percentiles | undefined {
  const count = samples.length;
  if (count === 0) return undefined;
  const sorted = Float64Array.from(samples).sort();
  // 90 of 100: rounding must not make 91 of it.
  const at = (percent: number): number => sorted[Math.ceil((percent * count) / 100) - 1];
  return { count, mean: mean(samples), p50: at(50), p90: at(90), p99: at(99), max: sorted[count - 1] };
}

export const LATENCY_HEADER = ["ms", "samples", "mean", "p50", "p90", "p99", "max"] as const;

/** Rows of a table under `LATENCY_HEADER`: milliseconds by what was measured, with dashes where nothing was. */
export function latencyRows(measured: Readonly<Record<string, readonly number[]>>): string[][] {
  return Object.entries(measured).map(([name, samples]) => {
    const found = percentiles(samples);
    if (found === undefined) return [name, "0", "–", "–", "–", "–", "–"];
    const { count, ...figures } = found;
    return [name, String(count), ...Object.values(figures).map(shownMs)];
  });
}

/** Three digits at least: 0.123, 1.23, 12.3, 1234. */
function shownMs(ms: number): string {
  return ms.toFixed(ms < 0.9995 ? 3 : ms < 9.995 ? 2 : ms < 99.95 ? 1 : 0);
}
