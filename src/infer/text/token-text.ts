/** What a single token stands for, as it is shown beside its log probability. */
import type { Tokenizer } from "../../data/tokenizer.js";

export interface TokenText {
  /** Its text; where its bytes are no characters, each of them that is not plain ASCII as `\xe2`. */
  readonly text: string;
  /** In UTF-8. */
  readonly bytes: readonly number[];
  /** Whether the bytes are characters. */
  readonly isText: boolean;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Of a token within a text: with the space before it. */
export function tokenText(tokenizer: Pick<Tokenizer, "tokenBytes">, id: number): TokenText {
  const bytes = tokenizer.tokenBytes(id);
  try {
    return { text: decoder.decode(Uint8Array.from(bytes)), bytes, isText: true };
  } catch {
    return { text: bytes.map(shownByte).join(""), bytes, isText: false };
  }
}

/** As OpenAI's completions name it: a part of a character is `bytes:\xe2`. */
export function completionToken({ text, isText }: TokenText): string {
  return isText ? text : `bytes:${text}`;
}

function shownByte(byte: number): string {
  const isPlain = byte >= 0x20 && byte < 0x7f;
  return isPlain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
}
