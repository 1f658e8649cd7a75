/** Which rank takes a sequence. */

/** A rank that has room. */
export interface Candidate {
  readonly rank: number;
  /** Rows of the prompt that it need not compute. */
  readonly prefixRows: number;
  /** Rows that its sequences take. */
  readonly sequenceRows: number;
}

/**
 * The one with the longest prefix of the prompt, unless it holds more rows than another by as many as that saves; of equal ones the one
 * that holds the fewest, then the first.
 */
export function choose(candidates: readonly Candidate[]): Candidate | undefined {
  const burden = ({ prefixRows, sequenceRows }: Candidate): number => sequenceRows - prefixRows;
  let best: Candidate | undefined;
  for (const candidate of candidates)
    if (
      best === undefined ||
      burden(candidate) < burden(best) ||
      (burden(candidate) === burden(best) && candidate.sequenceRows < best.sequenceRows)
    )
      best = candidate;
  return best;
}
