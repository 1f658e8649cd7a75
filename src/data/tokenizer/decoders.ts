/** From tokens back to text. */
import { bytesOf, textOfBytes } from "./byte-characters.js";
import { replacer } from "./normalizers.js";
import { type Makers, type Part, character, children, count, flag, make, text } from "./part.js";
import { metaspaceOf } from "./pre-tokenizers.js";

/** Tokens in, pieces of text out: all of them together are the text. */
export type Decoder = (tokens: readonly string[]) => readonly string[];

/** All bytes as one text, so that a character may lie in several tokens. */
const byteLevel: Decoder = (tokens) => {
  let bytes = new Uint8Array(1024);
  let length = 0;
  for (const token of tokens)
    for (const byte of bytesOf(token)) {
      if (length === bytes.length) {
        const longer = new Uint8Array(2 * length);
        longer.set(bytes);
        bytes = longer;
      }
      bytes[length++] = byte;
    }
  return [textOfBytes(bytes.subarray(0, length))];
};

/** How a byte is written that stands for itself. */
export const BYTE = /^<0x([0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>$/;

/** Bytes in a row that are no text as a whole become as many U+FFFD. */
const byteFallback: Decoder = (tokens) => {
  const out: string[] = [];
  let bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length === 0) return;
    try {
      out.push(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes)));
    } catch {
      out.push("\ufffd".repeat(bytes.length));
    }
    bytes = [];
  };
  for (const token of tokens) {
    const byte = BYTE.exec(token);
    if (byte) bytes.push(parseInt(byte[1], 16));
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
};

const each =
  (change: (token: string, index: number, isLast: boolean) => string): Decoder =>
  (tokens) =>
    tokens.map((token, i) => change(token, i, i === tokens.length - 1));

/** Of English: no space where the tokenizer that cut at punctuation has put one. */
function tidy(token: string): string {
  return [" .", " ?", " !", " ,"]
    .reduce((s, mark) => s.replaceAll(mark, mark[1]), token)
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(" do not", " don't")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}

const MAKERS: Makers<Decoder> = {
  ByteLevel: () => byteLevel,
  ByteFallback: () => byteFallback,
  Fuse: () => (tokens) => [tokens.join("")],
  Replace(part) {
    const replace = replacer(part);
    return each((token) => replace(token));
  },
  Strip(part) {
    const content = character(part, "content");
    const [start, stop] = [count(part, "start"), count(part, "stop")];
    return each((token) => {
      let [from, to] = [0, token.length];
      for (let i = 0; i < start && token.startsWith(content, from); i++) from += content.length;
      for (let i = 0; i < stop && from < to && token.endsWith(content); i++) {
        to -= content.length;
        token = token.slice(0, to);
      }
      return token.slice(from);
    });
  },
  Metaspace(part) {
    const { replacement, scheme } = metaspaceOf(part);
    return each((token, i) => token.replaceAll(replacement, i === 0 && scheme !== "never" ? "" : " "));
  },
  WordPiece(part) {
    const prefix = text(part, "prefix", "##");
    const isTidy = flag(part, "cleanup", true);
    return each((token, i) => {
      const joined = i === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return isTidy ? tidy(joined) : joined;
    });
  },
  BPEDecoder(part) {
    const suffix = text(part, "suffix", "</w>");
    return each((token, _, isLast) => token.replaceAll(suffix, isLast ? "" : " "));
  },
  Sequence(part) {
    const steps = children(part, "decoders").map(decoder);
    return (tokens) => steps.reduce((done, step) => step(done), tokens);
  },
};

/** @throws InputError naming what is not offered */
export function decoder(part: Part): Decoder {
  return make(part, MAKERS);
}

/** Where the file has no decoder. */
export const spaced: Decoder = (tokens) => [tokens.join(" ")];

/** The bytes of a token's text where another one stands before it, or that it is itself. @param part of which `decode` was made */
export function bytesOfToken(token: string, decode: Decoder, part: Part | undefined): readonly number[] {
  if (part !== undefined && isByteLevel(part)) return [...bytesOf(token)];
  const once = decode([token]).join("");
  const byte = BYTE.exec(token);
  if (byte && once !== token) return [parseInt(byte[1], 16)];
  // What is done to the start of a text is none of the token's.
  const twice = decode([token, token]).join("");
  return [...new TextEncoder().encode(twice.startsWith(once) ? twice.slice(once.length) : once)];
}

function isByteLevel(part: Part): boolean {
  if (part.fields.type === "Sequence") return children(part, "decoders").some(isByteLevel);
  return part.fields.type === "ByteLevel";
}
