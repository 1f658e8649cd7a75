/** Cutting a text where something matches, and what becomes of the matches. */
import { Matcher, type Match } from "./matcher.js";
import { type Part, child, refuse, text } from "./part.js";
import { parsePattern } from "./pattern.js";

/** Matches of a text, from left to right. */
export type Finder = (text: string) => Iterable<Match>;

/** A stretch of the text; all of them together are the text. */
interface Stretch extends Match {
  readonly matches: boolean;
}

/** `{ String: … }`: the text itself; `{ Regex: … }`: a pattern in Oniguruma's syntax. */
export function finderOf(part: Part, key = "pattern"): Finder {
  const pattern = child(part, key);
  if ("String" in pattern.fields) {
    const wanted = text(pattern, "String");
    return wanted === "" ? refuse(`${pattern.where}.String`, wanted, "a text") : literally(wanted);
  }
  if (!("Regex" in pattern.fields)) refuse(pattern.where, pattern.fields, "String or Regex");
  const where = `${pattern.where}.Regex`;
  const matcher = new Matcher(parsePattern(text(pattern, "Regex"), where), where);
  return (whole) => matcher.matches(whole);
}

export function literally(wanted: string): Finder {
  return function* (whole) {
    for (let at = whole.indexOf(wanted); at >= 0; at = whole.indexOf(wanted, at + wanted.length))
      yield { start: at, end: at + wanted.length };
  };
}

/** The matches of an expression with the flags g and u, for short ones only: a long match overflows. */
export function byExpression(expression: RegExp): Finder {
  return function* (whole) {
    for (const found of whole.matchAll(expression))
      yield { start: found.index, end: found.index + found[0].length };
  };
}

/** All stretches, empty ones included. */
export function* stretches(whole: string, find: Finder, invert = false): Generator<Stretch> {
  let at = 0;
  for (const { start, end } of find(whole)) {
    if (start > at) yield { start: at, end: start, matches: invert };
    yield { start, end, matches: !invert };
    at = end;
  }
  if (at < whole.length) yield { start: at, end: whole.length, matches: invert };
}

export type Behavior = "Removed" | "Isolated" | "MergedWithPrevious" | "MergedWithNext" | "Contiguous";

type Rule = (all: Iterable<Stretch>) => Iterable<Match>;

/** Joins neighbours for which the rule says so. */
const joining = (isJoined: (before: Stretch, after: Stretch) => boolean): Rule =>
  function* (all) {
    let held: Stretch | undefined;
    for (const stretch of all) {
      if (held !== undefined && isJoined(held, stretch)) {
        held = { start: held.start, end: stretch.end, matches: stretch.matches };
        continue;
      }
      if (held !== undefined) yield held;
      held = stretch;
    }
    if (held !== undefined) yield held;
  };

const RULES: Readonly<Record<Behavior, Rule>> = {
  Removed: function* (all) {
    for (const stretch of all) if (!stretch.matches) yield stretch;
  },
  Isolated: (all) => all,
  // Of several matches in a row, only the first goes to what precedes, or the last to what follows.
  MergedWithPrevious: joining((before, after) => after.matches && !before.matches),
  MergedWithNext: joining((before, after) => before.matches && !after.matches),
  Contiguous: joining((before, after) => before.matches === after.matches),
};
export const BEHAVIORS = Object.keys(RULES) as Behavior[];

/** Pieces that are left, none of them empty. */
export function* split(whole: string, find: Finder, behavior: Behavior, invert = false): Generator<Match> {
  for (const match of RULES[behavior](stretches(whole, find, invert)))
    if (match.end > match.start) yield match;
}
