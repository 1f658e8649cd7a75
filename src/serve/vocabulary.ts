/** What a tokenizer's tokens are, one by one: their bytes, their names, which are special. */
import type { Tokenizer } from "../data/tokenizer.js";
import { bytesOf } from "../data/tokenizer/byte-characters.js";

/** Tokens as clients see them in log probabilities. */
export interface Vocabulary {
  /** A token's text where it stands within a text; bytes that are no characters are U+FFFD. */
  readonly textOf: (id: number) => string;
  readonly bytesOf: (id: number) => readonly number[];
  /** As `textOf`, but tokens that cut a character are told apart, as OpenAI does: `bytes:\xe2\x80`. */
  readonly nameOf: (id: number) => string;
  /** Of tokens such as "end of text", which are left out of written text. */
  readonly special: ReadonlySet<number>;
}

type Decoding = Pick<Tokenizer, "decode">;

/**
 * @param tokenizer none: tokens have no text, and their names are `token_id:17`
 * @param json content of its tokenizer.json; without it bytes are those of the text
 */
export function vocabularyOf(tokenizer: Decoding | undefined, json?: unknown): Vocabulary {
  const { special, raw, isByteLevel } = readTokens(json);
  const texts = new Map<number, string>();
  const textOf = (id: number): string => {
    if (tokenizer === undefined) return "";
    let text = texts.get(id);
    if (text === undefined) {
      // Behind itself: some decoders leave out a space at the very start of a text.
      text = tokenizer.decode([id, id]).slice(tokenizer.decode([id]).length);
      texts.set(id, text);
    }
    return text;
  };
  const bytes = (id: number): readonly number[] => {
    const token = raw.get(id);
    const fallback = token === undefined ? undefined : BYTE.exec(token)?.[1];
    if (fallback !== undefined) return [Number.parseInt(fallback, 16)];
    if (token !== undefined && isByteLevel) return [...bytesOf(token)];
    return [...Buffer.from(textOf(id))];
  };
  return {
    special,
    textOf,
    bytesOf: bytes,
    nameOf(id) {
      const text = textOf(id);
      if (text === "") return tokenIdName(id);
      const own = bytes(id);
      if (!text.includes("\ufffd") || Buffer.from(text).equals(Buffer.from(own))) return text;
      return `bytes:${own.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
    },
  };
}

/** How a token is named by its id, as vLLM does. */
export const tokenIdName = (id: number): string => `token_id:${id}`;

/** A byte of a tokenizer that falls back to bytes. */
const BYTE = /^<0x([0-9A-F]{2})>$/;

interface TokenizerJson {
  readonly model?: { readonly type?: unknown; readonly vocab?: unknown };
  readonly decoder?: { readonly type?: unknown; readonly decoders?: readonly { readonly type?: unknown }[] };
  readonly added_tokens?: readonly { id: number; content: string; special?: boolean }[];
}

/** The tokenizer's reader has checked the file: what is not as expected is only left out. */
function readTokens(json: unknown) {
  const { model, decoder, added_tokens: added = [] } = (json ?? {}) as TokenizerJson;
  const raw = new Map<number, string>();
  if (typeof model?.vocab === "object" && model.vocab !== null && !Array.isArray(model.vocab))
    for (const [token, id] of Object.entries(model.vocab as Record<string, number>)) raw.set(id, token);
  // Their text is as it stands, not in the characters that stand for bytes.
  for (const { id } of added) raw.delete(id);
  const isByteLevel =
    decoder?.type === "ByteLevel" || (decoder?.decoders?.some(({ type }) => type === "ByteLevel") ?? false);
  return { raw, isByteLevel, special: new Set(added.filter((token) => token.special).map(({ id }) => id)) };
}
