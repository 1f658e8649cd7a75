/** A prompt as the beginning of the answer. */
import { numCharacters } from "../infer/text/token-offsets.js";
import { alignedText } from "../infer/text/written-text.js";
import type { ChoiceToken } from "./choice-token.js";
import type { Decoder } from "./model.js";

export interface Echo {
  readonly text: string;
  /** Of the text, in characters. */
  readonly length: number;
  readonly tokens: readonly ChoiceToken[];
}

export interface PreparedPrompt {
  readonly ids: readonly number[];
  /** As the client sent it; undefined where it sent ids. */
  readonly text?: string | undefined;
  /** Tokens before the text's own. */
  readonly added: number;
}

/** @param decoder none: there is no text, and each token is at its beginning */
export function echoOf({ ids, text, added }: PreparedPrompt, decoder: Decoder | undefined): Echo {
  const own = ids.slice(added);
  const aligned = decoder === undefined ? { text: "", offsets: own.map(() => 0) } : alignedText(decoder, own);
  const shown = text ?? aligned.text;
  const length = numCharacters(shown);
  // What was put before the text takes no place in it; normalisation may make a text longer than it was.
  const offsets = [...ids.slice(0, added).map(() => 0), ...aligned.offsets];
  const tokens = ids.map((id, i) => ({ id, offset: Math.min(offsets[i], length) }));
  return { text: shown, length, tokens };
}
