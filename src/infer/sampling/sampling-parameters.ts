/** How new tokens are chosen, and how many there are at most. */
export interface SamplingOptions {
  readonly maxNewTokens: number;
  /** 0: always the likeliest token. */
  readonly temperature: number;
  /** Only the k likeliest tokens; 0: all. */
  readonly topK: number;
  /** Only the likeliest tokens whose probabilities together reach this share (nucleus sampling); 1: all. */
  readonly topP: number;
  /** Only tokens at least so likely, relative to the likeliest; 0: all. */
  readonly minP: number;
  /** Logits of tokens in the prompt or written so far are divided by it where positive, multiplied where negative; 1: none. */
  readonly repetitionPenalty: number;
  /** Taken off the logits of tokens written so far, once; and for each time that they were written. */
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Each drawn number is a function of the seed and of how many tokens have been written. */
  readonly seed: number;
}

/** How the tokens of one sequence are chosen, and when it ends. Plain data: it travels to the rank that samples. */
export interface SamplingParameters extends SamplingOptions {
  /** Added to the logits of tokens. */
  readonly logitBias: readonly (readonly [id: number, bias: number])[];
  /** Tokens after which the sequence ends; they count as written. */
  readonly stopTokens: readonly number[];
  /** Tokens that were written before, of a text that has outgrown its context: they are punished and counted as if it had not. */
  readonly writtenBefore?: readonly number[] | undefined;
  /** Log probabilities of each new token, and of so many likeliest ones beside it; undefined: none. */
  readonly logprobs?: number | undefined;
  /** The same of the prompt's tokens, each given those before it. */
  readonly promptLogprobs?: number | undefined;
}

/** Everything off: the likeliest of what the model says, with no end but the length. */
export const GREEDY: SamplingParameters = {
  maxNewTokens: 16,
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  seed: 0,
  stopTokens: [],
};

/** log softmax of the model's own logits, before temperature and whatever else changes the choice. */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
  /** From 0: how many tokens are likelier. */
  readonly rank: number;
  /** The likeliest tokens, likeliest first; of equal ones the lowest id. */
  readonly top: readonly (readonly [id: number, logprob: number])[];
}

/** A token that was chosen. */
export interface SampledToken {
  readonly id: number;
  readonly logprob?: TokenLogprob | undefined;
}
