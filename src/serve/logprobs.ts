/** Log probabilities as the two endpoints write them. */
import { type Vocabulary, tokenIdName } from "./vocabulary.js";
import type { ChoiceToken } from "./choice-token.js";

/** Of /v1/completions: parallel lists; the first token of a prompt has no probability. */
export interface CompletionLogprobs {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly (number | null)[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
  readonly text_offset: readonly number[];
}

/** @param byId whether tokens are named by their ids */
export function completionLogprobs(
  written: readonly ChoiceToken[],
  vocabulary: Vocabulary,
  byId: boolean,
): CompletionLogprobs {
  const nameOf = byId ? tokenIdName : vocabulary.nameOf;
  return {
    tokens: written.map(({ id }) => nameOf(id)),
    token_logprobs: written.map(({ logprob }) => (logprob === undefined ? null : finite(logprob.logprob))),
    top_logprobs: written.map(({ logprob }) => {
      if (logprob === undefined) return null;
      const names = new Map<string, number>();
      // Of tokens with the same name the likeliest stands; the token itself always has its own.
      for (const [id, value] of logprob.top) if (!names.has(nameOf(id))) names.set(nameOf(id), finite(value));
      names.set(nameOf(logprob.id), finite(logprob.logprob));
      return Object.fromEntries(names);
    }),
    text_offset: written.map(({ offset }) => offset),
  };
}

interface ChatToken {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

/** Of /v1/chat/completions. */
export interface ChatLogprobs {
  readonly content: readonly (ChatToken & { readonly top_logprobs: readonly ChatToken[] })[];
  readonly refusal: null;
}

export function chatLogprobs(written: readonly ChoiceToken[], vocabulary: Vocabulary): ChatLogprobs {
  const tokenOf = (id: number, logprob: number): ChatToken => ({
    token: vocabulary.nameOf(id),
    logprob: finite(logprob),
    bytes: vocabulary.bytesOf(id),
  });
  return {
    content: written.flatMap(({ id, logprob }) =>
      logprob === undefined
        ? []
        : [
            {
              ...tokenOf(id, logprob.logprob),
              top_logprobs: logprob.top.map(([other, value]) => tokenOf(other, value)),
            },
          ],
    ),
    refusal: null,
  };
}

/** JSON has no −∞; OpenAI writes this for what is all but impossible. */
const IMPOSSIBLE = -9999;
const finite = (logprob: number): number => Math.max(IMPOSSIBLE, logprob);
