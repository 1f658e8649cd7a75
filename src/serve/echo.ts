/** A prompt as the beginning of the answer. */
import type { Tokenizer } from "../data/tokenizer.js";
import { characters, sequenceText } from "./sequence-text.js";
import type { WrittenToken } from "./written-token.js";

export interface Echo {
  readonly text: string;
  /** Of the text, in characters. */
  readonly length: number;
  readonly tokens: readonly WrittenToken[];
}

export interface PreparedPrompt {
  readonly ids: readonly number[];
  /** As the client sent it; undefined where it sent ids. */
  readonly text?: string | undefined;
  /** Tokens before the text's own. */
  readonly added: number;
}

/** @param tokenizer none: there is no text, and each token is at its beginning */
export function echoOf(
  { ids, text, added }: PreparedPrompt,
  tokenizer: Pick<Tokenizer, "decode" | "isByte"> | undefined,
): Echo {
  const decoded = sequenceText(tokenizer, [], []);
  const offsets: number[] = [];
  let whole = "";
  ids.forEach((id, i) => {
    offsets.push(decoded.length);
    if (i >= added) whole += decoded.add(id);
  });
  whole += decoded.end();
  const shown = text ?? whole;
  const length = characters(shown);
  // Normalisation may make a text longer than it was.
  const tokens = ids.map((id, i) => ({ id, offset: Math.min(offsets[i], length) }));
  return { text: shown, length, tokens };
}
