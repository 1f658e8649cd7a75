/** Which rank of a job is lost, as far as one of the others can tell, in a line. */
import { type ProcessIdentity, hasEnded, thisProcess } from "../storage/process-identity.js";

/** Ranks on this machine whose process has ended; of other machines nothing is known. */
export function endedRanks(ranks: readonly ProcessIdentity[]): number[] {
  const { machine } = thisProcess();
  return [...ranks.keys()].filter((rank) => ranks[rank].machine === machine && hasEnded(ranks[rank]));
}

/** Where a rank runs. */
export type RankPlace = Pick<ProcessIdentity, "host">;

/** What a rank knows when the launcher ends it. */
export interface Loss {
  readonly rank: number;
  readonly ranks: readonly RankPlace[];
  /** Whose processes are known to have ended. */
  readonly ended: readonly number[];
  /** Whose part of the exchange under way is missing. */
  readonly silent: readonly number[];
  /** The operator this rank was in. */
  readonly operator: string;
  /** The last that this rank has completed; 0: none. */
  readonly step: number;
}

/** The line that the lowest of the survivors says; the others leave it to that one. */
export function lossLine({ rank, ranks, ended, silent, operator, step }: Loss): string | undefined {
  // On this host nobody has ended: whoever is silent here only waits for others.
  const away = silent.filter((other) => ranks[other]?.host !== ranks[rank]?.host);
  const lost = ended.length > 0 ? ended : away;
  const survivor = [...ranks.keys()].find((other) => !lost.includes(other)) ?? 0;
  if (survivor !== rank) return undefined;
  const where = `in ${operator || "start-up"}${stepText(step)}`;
  if (ended.length > 0)
    return `rank ${rank}: lost ${namedRanks(ended, ranks)}, whose process has ended, while ${where}`;
  if (away.length > 0)
    return `rank ${rank}: ended by the launcher, with no answer from ${namedRanks(away, ranks)} ${where}`;
  return `rank ${rank}: ended by the launcher while ${where}`;
}

/** "rank 1 (host a) and rank 2 (host b)" */
export function namedRanks(numbers: readonly number[], ranks: readonly RankPlace[]): string {
  return numbers
    .map((rank) => `rank ${rank}${ranks[rank] === undefined ? "" : ` (host ${ranks[rank].host})`}`)
    .join(" and ");
}

/** To be put behind what has happened. */
export function stepText(step: number): string {
  return step > 0 ? `; last completed step ${step}` : "";
}
