/** What numbers may be: one table for the options of commands and of functions. */
import { InputError } from "./errors.js";

/** An interval; `above` and `below` are its open ends. */
export interface Bound {
  readonly whole?: boolean;
  readonly from?: number;
  readonly above?: number;
  readonly to?: number;
  readonly below?: number;
}

export const whole = (from: number, to: number) => ({ whole: true, from, to }) satisfies Bound;

/** Far beyond what anyone waits for; sums and products of such numbers stay whole. */
const MANY = 1e9;
/** Ranks of any cluster or launcher. */
const MOST_RANKS = 65_536;

export const BOUNDS = {
  /** As threads of one process. */
  ranks: whole(1, 64),
  launchedRanks: whole(1, MOST_RANKS),
  epSize: whole(1, MOST_RANKS),
  deadlineMs: { above: 0, to: MANY },
  latencyMs: { from: 0, to: 60_000 },
  seed: whole(0, Number.MAX_SAFE_INTEGER),
  steps: whole(1, MANY),
  rounds: whole(1, 100_000),
  batches: whole(1, MANY),
  batch: whole(1, 2 ** 20),
  /** Attention over whole sequences has masks of the square of it. */
  sequence: whole(1, 2 ** 15),
  positions: whole(1, 2 ** 24),
  width: whole(1, 2 ** 17),
  /** Four times the width, as usual, and more. */
  mlpWidth: whole(1, 2 ** 20),
  heads: whole(1, 2 ** 12),
  layers: whole(1, 2 ** 11),
  pairs: whole(1, 2 ** 10),
  experts: whole(1, 2 ** 14),
  vocabulary: whole(1, 2 ** 24),
  tokenId: whole(0, 2 ** 24),
  newTokens: whole(0, MANY),
  /** Likeliest tokens that are told beside each new one. */
  logprobs: whole(0, 20),
  /** Sequences at once. */
  slots: whole(1, 4_096),
  cacheBytes: whole(1, Number.MAX_SAFE_INTEGER),
  temperature: { from: 0, to: 1_000 },
  topK: whole(0, 2 ** 24),
  topP: { above: 0, to: 1 },
  minP: { from: 0, to: 1 },
  /** Multiplies or divides logits. */
  repetitionPenalty: { above: 0, to: 1_000 },
  /** Taken off logits; below zero it favours what has been written. */
  penalty: { from: -2, to: 2 },
  /** Of something that is neither nothing nor all. */
  properShare: { above: 0, below: 1 },
  efficiency: { above: 0, to: 1 },
  imbalance: { from: 1, to: MOST_RANKS },
  simulatedSteps: whole(1, 1_000),
  policyArgument: whole(1, 4_096),
  /** Of a table. */
  rows: whole(1, 1_000),
  /** Of an exported file: not so small that there are more files than tensors. */
  shardGb: { above: 0, to: 1_000 },
  messageBytes: whole(4, 2 ** 30),
  milliseconds: { above: 0, to: 60_000 },
  /** Devices of a node, nodes of a cluster. */
  devices: whole(1, MOST_RANKS),
  /** FLOP or bytes per millisecond. */
  rate: { above: 0, to: 1e30 },
} as const satisfies Readonly<Record<string, Bound>>;

export function fits(value: unknown, { whole: isWhole, from, above, to, below }: Bound): boolean {
  if (typeof value !== "number" || !Number.isFinite(value)) return false;
  if (isWhole && !Number.isSafeInteger(value)) return false;
  const isAbove = value >= (from ?? -Infinity) && value > (above ?? -Infinity);
  return isAbove && value <= (to ?? Infinity) && value < (below ?? Infinity);
}

/** "a whole number from 1 to 64" */
export function wanted({ whole: isWhole, from, above, to, below }: Bound): string {
  const ends = [
    from === undefined ? "" : ` from ${from}`,
    above === undefined ? "" : ` above ${above}`,
    to === undefined ? "" : ` to ${to}`,
    below === undefined ? "" : ` below ${below}`,
  ];
  return `a ${isWhole ? "whole " : ""}number${ends.filter((end) => end !== "").join(above !== undefined || below !== undefined ? "," : "")}`;
}

/**
 * Checks those options that are given.
 * @param where what the options are of
 * @throws InputError naming the first that does not fit, the value found and the value wanted
 */
export function checkBounds<O extends object>(
  where: string,
  options: O,
  bounds: Readonly<Partial<Record<keyof O, Bound>>>,
): void {
  for (const [name, bound] of Object.entries(bounds) as [string, Bound][]) {
    const value: unknown = options[name as keyof O];
    if (value !== undefined && !fits(value, bound))
      throw new InputError(
        `${where}: ${name} is ${typeof value === "number" ? value : JSON.stringify(value)}; wanted ${wanted(bound)}`,
      );
  }
}

/** Tokens of a sequence where nothing is said: the model's longest, as far as whole sequences go. */
export function defaultSequence(positions: number): number {
  return Math.min(positions, BOUNDS.sequence.to);
}
