/**
 * What the ranks do in one step of inference, decided in one place and carried out by each: a chunk of one prompt (prefill), and a token
 * of every running sequence (decode). Plain data: it travels between threads and hosts.
 *
 * A rank's cache has slots; the running sequences are in slots 0 … n − 1, the one whose prompt is being read is in slot n.
 */
import type { SampledToken, SamplingParameters, TokenLogprob } from "./sampling/sampling-parameters.js";

/** A sequence that a rank hears of for the first time. */
export interface SequenceStart {
  readonly sequence: number;
  readonly prompt: readonly number[];
  readonly sampling: SamplingParameters;
  /**
   * Tokens that it had written before it was preempted: they are fed again, one by one, as they were the first time, so that its cache gets
   * the same bits. Nothing is drawn, and nothing reported, until they are used up.
   */
  readonly written: readonly number[];
}

/** Changes of a rank's cache before the step, in order. */
export type CacheAction =
  /** The first `rows` rows of a slot, which are all that it has, to an empty one; the action after it frees the old one. */
  | { readonly kind: "move"; readonly from: number; readonly to: number; readonly rows: number }
  /** The memory of a slot is given back. */
  | { readonly kind: "free"; readonly slot: number }
  /** Rows of a slot from `start` on into the store, or from there, a block's length of them. Blocks are numbered from 0, below budgetRows / chunk. */
  | { readonly kind: "store"; readonly slot: number; readonly start: number; readonly block: number }
  | { readonly kind: "load"; readonly slot: number; readonly start: number; readonly block: number }
  /** A block of the store is given back. */
  | { readonly kind: "drop"; readonly block: number };

/** A chunk of a prompt: rows [start, end) of the sequence in slot `slot`. */
export interface PrefillChunk {
  readonly sequence: number;
  readonly slot: number;
  readonly start: number;
  readonly end: number;
}

export interface RankPlan {
  /** Sequences that are over: the rank forgets them. */
  readonly ended: readonly number[];
  readonly cache: readonly CacheAction[];
  readonly starts: readonly SequenceStart[];
  readonly prefill?: PrefillChunk | undefined;
  /** Running sequences, in the order of their slots; each is fed the last token that it wrote. */
  readonly decode: readonly number[];
}

/**
 * What a step does on any rank: all ranks take part in it, with no rows where they have none. What nobody has anything for is left out.
 */
export interface Phases {
  readonly prefill: boolean;
  readonly decode: boolean;
}

export function phasesOf({ ranks }: StepPlan): Phases {
  return {
    prefill: ranks.some(({ prefill }) => prefill !== undefined),
    decode: ranks.some(({ decode }) => decode.length > 0),
  };
}

/** By rank. All ranks take part in every step, with no rows where they have nothing to do. */
export interface StepPlan {
  readonly ranks: readonly RankPlan[];
}

export interface RankResult {
  /** A token of every sequence that decoded, and of the one whose prompt was read to its end; none of those that are fed old tokens, or want none (`maxNewTokens` 0). */
  readonly sampled: readonly { readonly sequence: number; readonly token: SampledToken }[];
  /** Of the rows of the chunk where wanted: row r speaks of token r + 1 of the prompt; the last row of a prompt of none. */
  readonly promptLogprobs?: readonly TokenLogprob[] | undefined;
}

/** What a step took, on rank 0. */
export interface StepTimes {
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** Time in which compute stood still for transfers, and in which transfers were under way. */
  readonly exposedMs: number;
  readonly communicationMs: number;
}

export interface StepResult {
  readonly ranks: readonly RankResult[];
  readonly times: StepTimes;
}

/** What carries plans out: on this thread, or on ranks elsewhere. */
export interface StepRunner {
  readonly shape: RunnerShape;
  run(plan: StepPlan): StepResult | Promise<StepResult>;
  close(): void | Promise<void>;
}

/** What a scheduler must know of ranks and their caches; the same on every rank. */
export interface RunnerShape {
  readonly ranks: number;
  /** Sequences that a rank may hold at once, the one being read included. */
  readonly slots: number;
  /** Rows of a slot: prompt and new tokens of one sequence. */
  readonly capacity: number;
  /** Rows of a chunk of prefill, and of a block of the store: chunks begin at multiples of it. */
  readonly chunk: number;
  /** Rows that slots and store of a rank may hold together; a sequence counts as whole granules. */
  readonly budgetRows: number;
  readonly granule: number;
}
