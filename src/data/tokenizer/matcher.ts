/**
 * Finds a pattern in a text, as backtracking engines do: the first place, and there the first way. JavaScript's own expressions
 * do not serve: they know other classes, no groups of their own case in Node 20, and overflow within a word of some million letters.
 */
import { InputError } from "../../core/errors.js";
import type { Anchor, Pattern } from "./pattern.js";
import { type CodePoints, isWordInPattern } from "./unicode.js";

export interface Match {
  readonly start: number;
  readonly end: number;
}

/** Matches from an index on; to the end, or -1. */
type Step = (at: number) => number;

const NEWLINE = 10;
const isHigh = (unit: number): boolean => (unit & 0xfc00) === 0xd800;
const isLow = (unit: number): boolean => (unit & 0xfc00) === 0xdc00;

/** In characters. */
function longestMatch(pattern: Pattern): number {
  switch (pattern.kind) {
    case "set":
      return 1;
    case "sequence":
      return pattern.parts.reduce((sum, part) => sum + longestMatch(part), 0);
    case "choice":
      return Math.max(...pattern.options.map(longestMatch));
    case "repeat": {
      const once = longestMatch(pattern.body);
      return once === 0 ? 0 : once * pattern.max;
    }
    case "atomic":
      return longestMatch(pattern.body);
    case "look":
    case "anchor":
      return 0;
  }
}

export class Matcher {
  #text = "";
  readonly #start: Step;
  /**
   * Of a pattern that begins with a run of a set: from a place within a run it ends where it would have ended from the run's
   * start. Where it has failed, it is not tried again before the run is over, which would take the square of its length.
   */
  readonly #leading: CodePoints | undefined;

  /** @param where the pattern stands, for messages */
  constructor(
    pattern: Pattern,
    readonly where = "a pattern",
  ) {
    this.#start = this.#compile(pattern, (at) => at);
    const first = pattern.kind === "sequence" ? pattern.parts.at(0) : pattern;
    const isRun = first?.kind === "repeat" && first.body.kind === "set" && first.mode === "greedy";
    if (isRun && first.min === 1 && first.max === Infinity) this.#leading = first.body.has;
  }

  /**
   * Matches from left to right, none of which overlap; of the text, surrogates are paired.
   * @throws InputError when a group is repeated so often that it overflows the stack; a class may be, any number of times
   */
  *matches(text: string): Generator<Match> {
    let lastEnd = -1;
    for (let at = 0; at <= text.length;) {
      // Between two calls another text may have been looked at.
      this.#text = text;
      const end = this.#endOfMatch(at);
      // Nothing is no match where one has just ended.
      if (end < 0 || (end === at && at === lastEnd)) at = this.#nextPlace(at);
      else {
        yield { start: at, end };
        lastEnd = end;
        at = end === at ? at + ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1) : end;
      }
    }
  }

  /** The next place that may be the start of a match after one that is none. */
  #nextPlace(at: number): number {
    let next = at + this.#width(at);
    if (this.#leading === undefined || this.#one(this.#leading, at) < 0) return next;
    for (let end = next; end >= 0; end = this.#one(this.#leading, end)) next = end;
    return next;
  }

  #endOfMatch(at: number): number {
    try {
      return this.#start(at);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new InputError(
        `${this.where} repeats a group too often to be matched at character ${at} of a text of ${this.#text.length}; split the text into several files`,
      );
    }
  }

  /** Code units of the character here. */
  #width(at: number): number {
    return isHigh(this.#text.charCodeAt(at)) && isLow(this.#text.charCodeAt(at + 1)) ? 2 : 1;
  }

  /** Index behind the character here if it is in the set, or -1. */
  #one(has: CodePoints, at: number): number {
    if (at >= this.#text.length) return -1;
    const unit = this.#text.charCodeAt(at);
    if (!isHigh(unit)) return has(unit) ? at + 1 : -1;
    const codePoint = this.#text.codePointAt(at) as number;
    if (!has(codePoint)) return -1;
    return codePoint > 0xffff ? at + 2 : at + 1;
  }

  #before(at: number): number {
    return at > 1 && isLow(this.#text.charCodeAt(at - 1)) && isHigh(this.#text.charCodeAt(at - 2))
      ? at - 2
      : at - 1;
  }

  #compile(pattern: Pattern, next: Step): Step {
    switch (pattern.kind) {
      case "set":
        return (at) => {
          const end = this.#one(pattern.has, at);
          return end < 0 ? -1 : next(end);
        };
      case "sequence":
        return pattern.parts.reduceRight((after, part) => this.#compile(part, after), next);
      case "choice": {
        const options = pattern.options.map((option) => this.#compile(option, next));
        return (at) => {
          for (const option of options) {
            const end = option(at);
            if (end >= 0) return end;
          }
          return -1;
        };
      }
      case "anchor":
        return (at) => (this.#holds(pattern.at, at) ? next(at) : -1);
      case "atomic":
        return this.#alone(pattern.body, next);
      case "look":
        return this.#look(pattern, next);
      case "repeat":
        return pattern.body.kind === "set"
          ? this.#run(pattern, pattern.body.has, next)
          : pattern.mode === "possessive"
            ? this.#alone({ ...pattern, mode: "greedy" }, next)
            : this.#loop(pattern, next);
    }
  }

  /** The first way to match the body is the only one. */
  #alone(body: Pattern, next: Step): Step {
    const inner = this.#compile(body, (at) => at);
    return (at) => {
      const end = inner(at);
      return end < 0 ? -1 : next(end);
    };
  }

  #look(look: Pattern & { kind: "look" }, next: Step): Step {
    let target = -1;
    const body = this.#compile(look.body, (at) => (look.behind && at !== target ? -1 : at));
    const longest = longestMatch(look.body);
    const isThere = (at: number): boolean => {
      if (!look.behind) return body(at) >= 0;
      const outer = target;
      target = at;
      let from = at;
      let characters = 0;
      while (from >= 0 && body(from) < 0)
        from = from === 0 || characters++ === longest ? -1 : this.#before(from);
      target = outer;
      return from >= 0;
    };
    return (at) => (isThere(at) !== look.negative ? next(at) : -1);
  }

  /** A set repeated: no state is kept per character. */
  #run({ min, max, mode }: Pattern & { kind: "repeat" }, has: CodePoints, next: Step): Step {
    return (at) => {
      let count = 0;
      let end = at;
      const grow = (): boolean => {
        const longer = this.#one(has, end);
        if (longer < 0) return false;
        end = longer;
        count++;
        return true;
      };
      while (count < (mode === "lazy" ? min : max) && grow());
      if (count < min) return -1;
      for (;;) {
        const found = next(end);
        if (found >= 0 || mode === "possessive") return found;
        if (mode === "lazy") {
          if (count === max || !grow()) return -1;
        } else {
          if (count === min) return -1;
          end = this.#before(end);
          count--;
        }
      }
    };
  }

  #loop({ body, min, max, mode }: Pattern & { kind: "repeat" }, next: Step): Step {
    let count = 0;
    let begun = -1;
    const once = this.#compile(body, (at) => (at === begun && count > min ? -1 : attempt(at)));
    const more = (at: number): number => {
      if (count >= max) return -1;
      const before = begun;
      count++;
      begun = at;
      const end = once(at);
      count--;
      begun = before;
      return end;
    };
    /** What follows may come to this loop again. */
    const leave = (at: number): number => {
      if (count < min) return -1;
      const [countHere, begunHere] = [count, begun];
      const end = next(at);
      [count, begun] = [countHere, begunHere];
      return end;
    };
    const attempt = (at: number): number => {
      // What the body tries may go on behind this place and come back.
      const [countHere, begunHere] = [count, begun];
      const end = mode === "lazy" ? leave(at) : more(at);
      [count, begun] = [countHere, begunHere];
      return end >= 0 ? end : mode === "lazy" ? more(at) : leave(at);
    };
    return (at) => {
      const [outerCount, outerBegun] = [count, begun];
      [count, begun] = [0, -1];
      const end = attempt(at);
      [count, begun] = [outerCount, outerBegun];
      return end;
    };
  }

  #holds(anchor: Anchor, at: number): boolean {
    const text = this.#text;
    switch (anchor) {
      case "start":
        return at === 0;
      case "end":
        return at === text.length;
      case "end or last line end":
        return at === text.length || (at === text.length - 1 && text.charCodeAt(at) === NEWLINE);
      case "line start":
        return at === 0 || (at < text.length && text.charCodeAt(at - 1) === NEWLINE);
      case "line end":
        return at === text.length || text.charCodeAt(at) === NEWLINE;
      case "edge":
        return this.#isEdge(at);
      case "no edge":
        return !this.#isEdge(at);
    }
  }

  #isEdge(at: number): boolean {
    const isWord = (index: number): boolean =>
      index >= 0 && index < this.#text.length && this.#one(isWordInPattern, index) >= 0;
    return isWord(at) !== (at > 0 && isWord(this.#before(at)));
  }
}
