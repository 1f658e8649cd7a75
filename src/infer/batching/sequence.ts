/** A sequence on its way: what it asked for, what it has written, and how much of it stands in a cache. */
import type { EndReason, SequenceRequest } from "../engine.js";
import type { SamplingParameters, SampledToken, TokenLogprob } from "../sampling/sampling-parameters.js";
import type { SequenceStart } from "../step-plan.js";

export interface Sequence {
  /** Rises in the order of submission: the smaller, the older. */
  readonly id: number;
  readonly prompt: readonly number[];
  readonly sampling: SamplingParameters;
  /** Tokens that it writes at most. */
  readonly maxTokens: number;
  /** Rows that it ever has at most: the last token that it writes is never fed. */
  readonly maxRows: number;
  readonly written: number[];
  /** Rows in its rank's cache. Its next row is the prompt's or `written[rows - prompt.length]`. */
  rows: number;
  /** Those of the prompt so far; undefined: not wanted, or told. */
  promptLogprobs: TokenLogprob[] | undefined;
  /** A rank has heard of it, before now or now. */
  started: boolean;
  /** It has ended; its slot is cleared before the next step. */
  over: boolean;
}

/** @param contextLength tokens that prompt and answer have together at most */
export function newSequence(
  id: number,
  { prompt, sampling }: SequenceRequest,
  contextLength: number,
): Sequence {
  const maxTokens = Math.min(sampling.maxNewTokens, contextLength - prompt.length);
  return {
    id,
    prompt,
    sampling,
    maxTokens,
    maxRows: prompt.length + Math.max(maxTokens - 1, 0),
    written: [],
    rows: 0,
    promptLogprobs: sampling.promptLogprobs === undefined ? undefined : [],
    started: false,
    over: false,
  };
}

/** Where the chunk ends that begins at the sequence's rows. It depends on the prompt alone. */
export function chunkEnd({ rows, prompt }: Sequence, chunk: number): number {
  return Math.min(rows + chunk, prompt.length);
}

/** Complete chunks of the prompt that may come from a store: its last token is always computed, and so is what it wants to be told of. */
export function loadableChunks({ prompt, promptLogprobs }: Sequence, chunk: number): number {
  return promptLogprobs === undefined ? Math.floor((prompt.length - 1) / chunk) : 0;
}

/** Steps until a sequence that starts anew writes something new: its prompt in chunks, then what it had written, token by token. */
export function stepsToCatchUp({ prompt, written }: Sequence, chunk: number): number {
  return Math.ceil(prompt.length / chunk) + written.length;
}

/** What a rank must know. What was told of the prompt already is not asked for again. */
export function startOf({ id, prompt, sampling, written, promptLogprobs }: Sequence): SequenceStart {
  const told = promptLogprobs === undefined && sampling.promptLogprobs !== undefined;
  return {
    sequence: id,
    prompt,
    sampling: told ? { ...sampling, promptLogprobs: undefined } : sampling,
    written: [...written],
  };
}

/** Whether the last row that was fed leads to a token that nobody has heard yet. */
export function writesNew({ rows, prompt, written, maxTokens }: Sequence): boolean {
  return maxTokens > 0 && rows - prompt.length === written.length;
}

/** Appends a token. @returns why the sequence ends with it, if it does */
export function write(sequence: Sequence, { id }: SampledToken): EndReason | undefined {
  sequence.written.push(id);
  if (sequence.sampling.stopTokens.includes(id)) return "stop";
  return sequence.written.length >= sequence.maxTokens ? "length" : undefined;
}
