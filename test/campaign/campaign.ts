/**
 * What a campaign is: every other file of this folder is one, by its name. Its first comment is one line that says what it
 * tests; `npm run campaign` lists them.
 */

export interface CampaignOptions {
  readonly seed: number;
  /** Undefined: as many as a full run has. */
  readonly cases: number | undefined;
  /** Progress, for people. */
  readonly say: (line: string) => void;
}

export interface CampaignResult {
  /** Cases that were tried. */
  readonly cases: number;
  /** One line each: what was wrong with which case, and how to repeat it alone. */
  readonly failures: readonly string[];
  /** What the figures mean: what was not tried, how close it was. */
  readonly notes?: readonly string[];
}

/** What a campaign's file exports under the name `campaign`. */
export type Campaign = (options: CampaignOptions) => Promise<CampaignResult>;

/**
 * How to repeat one case alone. Case i of seed s is made of the number s + i and of nothing else, so it is the first case of
 * seed s + i. Campaigns whose cases depend on each other say themselves how to repeat them.
 */
export function repeatLine(name: string, caseSeed: number): string {
  return `npm run campaign -- ${name} --seed ${caseSeed} --cases 1`;
}

/** Says how far a long run is, at most every ten seconds. */
export function progressOf(
  say: (line: string) => void,
  cases: number,
): (done: number, failed: number) => void {
  const started = performance.now();
  let lastMs = started;
  return (done, failed) => {
    const now = performance.now();
    if (now - lastMs < 10_000) return;
    lastMs = now;
    const seconds = (now - started) / 1e3;
    const left = ((cases - done) / done) * seconds;
    say(
      `${done} of ${cases} cases, ${failed} failures, ${seconds.toFixed(0)} s, about ${left.toFixed(0)} s more`,
    );
  };
}
