/** What is typical of measured values. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The value below which this share of the others lies. @param share 0 to 1 */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)];
}

export function mean(values: readonly number[]): number {
  return sum(values) / values.length;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

const TRIMMED = 0.1;

/**
 * Mean without the lowest and the highest tenth (at least one value each, of three or more). Outliers do not move it, as
 * they do not move a median; but unlike medians, these means of operators add up to about the mean of the step.
 */
export function trimmedMean(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const drop = sorted.length < 3 ? 0 : Math.max(1, Math.floor(sorted.length * TRIMMED));
  const kept = sorted.slice(drop, sorted.length - drop);
  return mean(kept);
}
