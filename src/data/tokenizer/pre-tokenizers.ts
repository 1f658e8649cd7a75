/** From a text to the words that the model encodes one by one. */
import { endOfPreToken } from "../pre-tokens.js";
import { byteCharacters } from "./byte-characters.js";
import { type Makers, type Part, character, choice, children, count, flag, make, refuse } from "./part.js";
import { BEHAVIORS, type Finder, byExpression, finderOf, literally, split } from "./splitting.js";
import { isWord } from "./unicode.js";

/** A piece of the text, and whether it is at its very start. */
export interface Piece {
  readonly text: string;
  readonly isFirst: boolean;
}

export type PreTokenizer = (piece: Piece) => Iterable<Piece>;

/** How words are cut, and what is then done to each, which follows from the word alone. */
export interface PreTokenization {
  readonly cut: readonly PreTokenizer[];
  readonly perWord: (word: string) => string;
}

const same = (word: string): string => word;

const splitting = (find: Finder, behavior: (typeof BEHAVIORS)[number], invert = false): PreTokenizer =>
  function* (piece) {
    for (const { start, end } of split(piece.text, find, behavior, invert))
      yield { text: piece.text.slice(start, end), isFirst: piece.isFirst && start === 0 };
  };

const gpt2: PreTokenizer = function* ({ text, isFirst }) {
  for (let at = 0; at < text.length;) {
    const end = endOfPreToken(text, at, text.length);
    yield { text: text.slice(at, end), isFirst: isFirst && at === 0 };
    at = end;
  }
};

const prefixed =
  (prefix: string, isWanted: (piece: Piece) => boolean): PreTokenizer =>
  (piece) => [
    isWanted(piece) && !piece.text.startsWith(prefix) ? { ...piece, text: prefix + piece.text } : piece,
  ];

const onlyCut = (...cut: PreTokenizer[]): PreTokenization => ({ cut, perWord: same });

/** @see metaspaceOf */
export interface Metaspace {
  readonly replacement: string;
  readonly scheme: "first" | "always" | "never";
  readonly split: boolean;
}

/** Older files say `add_prefix_space` where newer ones say `prepend_scheme`. */
export function metaspaceOf(part: Part): Metaspace {
  const prefix = flag(part, "add_prefix_space", true);
  const scheme = choice(part, "prepend_scheme", ["first", "always", "never"], prefix ? "always" : "never");
  if (!prefix && scheme !== "never")
    refuse(`${part.where}.prepend_scheme`, scheme, "never, as add_prefix_space is false");
  return { replacement: character(part, "replacement", "▁"), scheme, split: flag(part, "split", true) };
}

/** Runs of characters of words, and of all others. */
const wordsAndOthers: PreTokenizer = function* ({ text, isFirst }) {
  let start = 0;
  let isInWord: boolean | undefined;
  for (let at = 0; at < text.length;) {
    const codePoint = text.codePointAt(at) as number;
    if (isInWord !== undefined && isInWord !== isWord(codePoint)) {
      yield { text: text.slice(start, at), isFirst: isFirst && start === 0 };
      start = at;
    }
    isInWord = isWord(codePoint);
    at += codePoint > 0xffff ? 2 : 1;
  }
  yield { text: text.slice(start), isFirst: isFirst && start === 0 };
};

const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;

const MAKERS: Makers<PreTokenization> = {
  ByteLevel(part) {
    const cut: PreTokenizer[] = [];
    if (flag(part, "add_prefix_space", true)) cut.push(prefixed(" ", () => true));
    if (flag(part, "use_regex", true)) cut.push(gpt2);
    return { cut, perWord: byteCharacters };
  },
  Metaspace(part) {
    const { replacement, scheme, split: isSplit } = metaspaceOf(part);
    const cut: PreTokenizer[] = [(piece) => [{ ...piece, text: piece.text.replaceAll(" ", replacement) }]];
    if (scheme !== "never") cut.push(prefixed(replacement, (piece) => scheme === "always" || piece.isFirst));
    if (isSplit) cut.push(splitting(literally(replacement), "MergedWithNext"));
    return onlyCut(...cut);
  },
  Split: (part) =>
    onlyCut(splitting(finderOf(part), choice(part, "behavior", BEHAVIORS), flag(part, "invert", false))),
  Digits: (part) =>
    onlyCut(
      splitting(byExpression(/\p{N}/gu), flag(part, "individual_digits", false) ? "Isolated" : "Contiguous"),
    ),
  Punctuation: (part) =>
    onlyCut(splitting(byExpression(PUNCTUATION), choice(part, "behavior", BEHAVIORS, "Isolated"))),
  Whitespace: () => onlyCut(splitting(byExpression(/\p{White_Space}/gu), "Removed"), wordsAndOthers),
  WhitespaceSplit: () => onlyCut(splitting(byExpression(/\p{White_Space}/gu), "Removed")),
  BertPreTokenizer: () =>
    onlyCut(
      splitting(byExpression(/\p{White_Space}/gu), "Removed"),
      splitting(byExpression(PUNCTUATION), "Isolated"),
    ),
  CharDelimiterSplit: (part) => onlyCut(splitting(literally(character(part, "delimiter")), "Removed")),
  FixedLength(part) {
    const length = count(part, "length");
    if (length === 0) refuse(`${part.where}.length`, length, "1 or more");
    return onlyCut(function* (piece) {
      const characters = [...piece.text];
      for (let at = 0; at < characters.length; at += length)
        yield { text: characters.slice(at, at + length).join(""), isFirst: piece.isFirst && at === 0 };
    });
  },
  Sequence: (part) => children(part, "pretokenizers").map(preTokenizer).reduce(inOrder, onlyCut()),
};

function inOrder(first: PreTokenization, second: PreTokenization): PreTokenization {
  if (second.cut.length === 0)
    return { cut: first.cut, perWord: (word) => second.perWord(first.perWord(word)) };
  const { perWord } = first;
  const between: PreTokenizer[] =
    perWord === same ? [] : [(piece) => [{ ...piece, text: perWord(piece.text) }]];
  return { cut: [...first.cut, ...between, ...second.cut], perWord: second.perWord };
}

/** @throws InputError naming what is not offered */
export function preTokenizer(part: Part): PreTokenization {
  return make(part, MAKERS);
}

/** All words of a piece, one after the other. */
export function words(cut: readonly PreTokenizer[], piece: Piece): Iterable<Piece> {
  return cut.reduce<Iterable<Piece>>((pieces, step) => through(pieces, step), [piece]);
}

function* through(pieces: Iterable<Piece>, step: PreTokenizer): Generator<Piece> {
  for (const piece of pieces) yield* step(piece);
}
