/** Lanes for what is under way at the same time, so that nothing is drawn over anything else. */

export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface Lanes {
  /** Of each span. */
  readonly lanes: readonly number[];
  /** At least 1. */
  readonly numLanes: number;
}

/** The first lane that is free, span by span in the order of their starts: as few lanes as there can be. */
export function assignLanes(spans: readonly Span[]): Lanes {
  const lanes = new Array<number>(spans.length).fill(0);
  const order = [...spans.keys()].sort((a, b) => spans[a].start - spans[b].start || a - b);
  const free: number[] = [];
  for (const i of order) {
    const { start, end } = spans[i];
    const found = free.findIndex((at) => at <= start);
    const lane = found < 0 ? free.length : found;
    free[lane] = end;
    lanes[i] = lane;
  }
  return { lanes, numLanes: Math.max(1, free.length) };
}
