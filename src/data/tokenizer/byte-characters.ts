/** GPT-2's printable characters in place of bytes, and back. */
import { BYTE_CHARACTERS } from "../bpe-model.js";

const BYTE_OF = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));
const encoder = new TextEncoder();

/** The UTF-8 bytes of the text, each as its character. */
export function byteCharacters(text: string): string {
  let out = "";
  for (const byte of encoder.encode(text)) out += BYTE_CHARACTERS[byte];
  return out;
}

/** The bytes that a token stands for; a token with a character that stands for none is its own text. */
export function bytesOf(token: string): Iterable<number> {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTE_OF.get(character);
    if (byte === undefined) return encoder.encode(token);
    bytes.push(byte);
  }
  return bytes;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** UTF-8; what is no character becomes U+FFFD. */
export function textOfBytes(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
