import type { TokenLogprob } from "../infer/sampling/sampling-parameters.js";

/** A token of a choice: of the prompt that it echoes, or one that the model has written. */
export interface ChoiceToken {
  readonly id: number;
  /** Where its text begins within the choice's, in characters. */
  readonly offset: number;
  /** Where log probabilities are asked for; the first token of a prompt has none. */
  readonly logprob?: TokenLogprob | undefined;
}
