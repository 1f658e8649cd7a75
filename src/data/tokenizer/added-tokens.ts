/** Tokens beside the model's: found in the text before the model sees it. */
import { type Fields, type Part, flag, text } from "./part.js";
import { isWord } from "./unicode.js";

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Not within a word. */
  readonly singleWord: boolean;
  /** Takes the white space before it, or behind it, with it. */
  readonly stripLeft: boolean;
  readonly stripRight: boolean;
  /** Looked for in the normalised text, by its own normalised form. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** The model's tokens, as far as it matters here. */
interface Vocabulary {
  readonly size: number;
  readonly idOf: (token: string) => number | undefined;
}

/**
 * What the file lists, with the ids that the reference implementation gives, whatever the file says: the model's where it has the
 * token, else the next free one behind the model's.
 */
export function addedTokens(parts: readonly Part[], vocabulary: Vocabulary): AddedToken[] {
  const ids = new Map<string, number>();
  const byId = new Map<number, AddedToken>();
  let highest = -1;
  for (const part of parts) {
    const content = text(part, "content");
    if (content === "") continue;
    const id = ids.get(content) ?? vocabulary.idOf(content) ?? Math.max(highest + 1, vocabulary.size);
    ids.set(content, id);
    highest = Math.max(highest, id);
    const special = flag(part, "special", false);
    byId.set(id, {
      id,
      content,
      singleWord: flag(part, "single_word", false),
      stripLeft: flag(part, "lstrip", false),
      stripRight: flag(part, "rstrip", false),
      normalized: flag(part, "normalized", !special),
      special,
    });
  }
  return [...byId.values()];
}

/** A stretch of text, or the token that was found. */
export type Found = string | AddedToken;

const isSpace = /\p{White_Space}/u;
const escaped = (s: string): string => s.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/**
 * Cuts a text at the tokens: the leftmost first, of several there the longest.
 * @param written how each token is written in the text
 */
export function tokenFinder(
  tokens: readonly AddedToken[],
  written: (token: AddedToken) => string,
): (text: string) => Iterable<Found> {
  const byText = new Map<string, AddedToken>();
  // Special ones go first where two are written alike.
  for (const token of [...tokens.filter((t) => t.special), ...tokens.filter((t) => !t.special)])
    if (written(token) !== "" && !byText.has(written(token))) byText.set(written(token), token);
  if (byText.size === 0) return (whole) => (whole === "" ? [] : [whole]);
  const longestFirst = [...byText.keys()].sort((a, b) => b.length - a.length);
  const expression = new RegExp(longestFirst.map(escaped).join("|"), "g");
  return function* (whole) {
    let from = 0;
    for (const found of whole.matchAll(expression)) {
      const token = byText.get(found[0]) as AddedToken;
      let [start, end] = [found.index, found.index + found[0].length];
      if (token.singleWord && (isWordBefore(whole, start) || isWordAt(whole, end))) continue;
      if (token.stripLeft) while (start > from && isSpace.test(whole[start - 1])) start--;
      if (token.stripRight) while (end < whole.length && isSpace.test(whole[end])) end++;
      if (from < start) yield whole.slice(from, start);
      yield token;
      from = end;
    }
    if (from < whole.length) yield whole.slice(from);
  };
}

function isWordAt(whole: string, at: number): boolean {
  return at < whole.length && isWord(whole.codePointAt(at) as number);
}

function isWordBefore(whole: string, end: number): boolean {
  const isPair = /^[\ud800-\udbff][\udc00-\udfff]$/.test(whole.slice(Math.max(0, end - 2), end));
  return end > 0 && isWordAt(whole, isPair ? end - 2 : end - 1);
}

/** The parts of `added_tokens`. */
export function addedParts(list: readonly Fields[], file: string): Part[] {
  return list.map((fields, i) => ({ fields, where: `${file}: added_tokens[${i}]` }));
}
