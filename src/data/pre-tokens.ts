/**
 * GPT-2's pre-tokenisation, which is the regular expression
 * `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: contractions, words with their leading space, digits,
 * punctuation, white space. Scanned by hand because V8 keeps a state per character of a match, and overflows on a long word.
 * `\s` is Unicode's white space: U+0085 is, U+FEFF is not.
 */
import { isLetter, isNumber, isSpace } from "./tokenizer/unicode.js";

const CONTRACTIONS = ["s", "t", "re", "ve", "m", "ll", "d"];
const APOSTROPHE = 0x27;
const SPACE = 0x20;

const UNKNOWN = 0;
const LETTER = 1;
const NUMBER = 2;
const WHITE = 3;
const OTHER = 4;

/** Class of each code point, found when it is first asked for. */
const classes = new Uint8Array(0x110000);

function classOf(codePoint: number): number {
  const known = classes[codePoint];
  if (known !== UNKNOWN) return known;
  const found = isLetter(codePoint)
    ? LETTER
    : isNumber(codePoint)
      ? NUMBER
      : isSpace(codePoint)
        ? WHITE
        : OTHER;
  return (classes[codePoint] = found);
}

/** First index from `at` on whose character is of another class. */
function endOfRun(text: string, at: number, end: number, kind: number): number {
  let i = at;
  while (i < end) {
    const unit = text.charCodeAt(i);
    const isPair = unit >= 0xd800 && unit < 0xdc00 && i + 1 < end;
    const codePoint = isPair ? (text.codePointAt(i) as number) : unit;
    if (classOf(codePoint) !== kind) break;
    i += codePoint > 0xffff ? 2 : 1;
  }
  return i;
}

/**
 * @param at where a pre-token begins
 * @param end of the text, as far as it is looked at
 * @returns where it ends
 */
export function endOfPreToken(text: string, at: number, end: number): number {
  const first = text.charCodeAt(at);
  if (first === APOSTROPHE) {
    const contraction = CONTRACTIONS.find((c) => text.startsWith(c, at + 1) && at + 1 + c.length <= end);
    if (contraction !== undefined) return at + 1 + contraction.length;
  }
  const start = first === SPACE && at + 1 < end ? at + 1 : at;
  const unit = text.charCodeAt(start);
  const isPair = unit >= 0xd800 && unit < 0xdc00 && start + 1 < end;
  const kind = classOf(isPair ? (text.codePointAt(start) as number) : unit);
  if (kind !== WHITE) return endOfRun(text, start, end, kind);
  const blank = endOfRun(text, at, end, WHITE);
  // The last white space before a word is left to the word (or stands alone).
  return blank === end || blank === at + 1 ? blank : blank - 1;
}
