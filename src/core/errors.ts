import { oneLine } from "./shown.js";

/**
 * Errors a user can act on. Everything that reaches a user as "their input is wrong" is an `InputError`
 * (one line, exit code 2); a failure of the outside world (disk, peer) is an `EnvironmentError` (exit code 1).
 * Anything else is a bug of ours and keeps its stack trace. Whatever a message quotes, it is one line that people can read.
 */
export class InputError extends Error {
  override readonly name: string = "InputError";
  readonly exitCode: number = 2;
  constructor(message = "") {
    super(oneLine(message));
  }
}

/** The outside world failed: a disk, a peer, a missing library. */
export class EnvironmentError extends Error {
  override readonly name: string = "EnvironmentError";
  readonly exitCode: number = 1;
  constructor(message = "") {
    super(oneLine(message));
  }
}

/** Numbers that are no longer finite: a run that has diverged, or weights that are damaged. */
export class NumericsError extends Error {
  override readonly name: string = "NumericsError";
  readonly exitCode: number = 1;
}

/** The user asked to stop before there was anything to save. */
export class InterruptedError extends Error {
  override readonly name: string = "InterruptedError";
  readonly exitCode: number = 130;
  constructor(message = "") {
    super(oneLine(message));
  }
}

/**
 * Exit code of an error that needs no stack trace: one of ours, or one of the operating system's (ENOENT, EACCES …) that
 * nobody turned into a better line. Undefined: a bug.
 */
export function exitCodeOf(error: unknown): number | undefined {
  const { exitCode, code, syscall } = error as { exitCode?: number; code?: unknown; syscall?: unknown };
  if (exitCode !== undefined) return exitCode;
  return typeof code === "string" && typeof syscall === "string" ? 1 : undefined;
}

/** A peer does not answer, or is lost, during a collective. `operator` is what this rank was waiting in. */
export class CommError extends Error {
  override readonly name: string = "CommError";
  readonly exitCode: number = 1;
  constructor(
    message: string,
    readonly details: { rank: number; peers: readonly number[]; operator: string },
  ) {
    super(oneLine(message));
  }
}

/** Our own invariants: a failure here is a bug, not a user's mistake. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${message}`);
}

/** The candidate nearest to `word` by edit distance, if it is near enough to be a plausible typo. */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    // No fewer edits than characters too many: words of any length are refused at once.
    if (Math.abs(word.length - candidate.length) >= bestDistance) continue;
    const distance = editDistance(word, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}
