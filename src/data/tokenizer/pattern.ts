/** Regular expressions as Oniguruma's (Ruby's) syntax has them, which is what `tokenizer.json` is written in: text → tree. */
import { InputError } from "../../core/errors.js";
import { type CodePoints, isSpace, isWordInPattern, propertyNamed, remembered } from "./unicode.js";

/** Places that are told by what stands around them. */
export type Anchor =
  "line start" | "line end" | "start" | "end" | "end or last line end" | "edge" | "no edge";

export type Pattern =
  | { readonly kind: "set"; readonly has: CodePoints }
  | { readonly kind: "sequence"; readonly parts: readonly Pattern[] }
  | { readonly kind: "choice"; readonly options: readonly Pattern[] }
  | {
      readonly kind: "repeat";
      readonly body: Pattern;
      readonly min: number;
      readonly max: number;
      readonly mode: "greedy" | "lazy" | "possessive";
    }
  | { readonly kind: "look"; readonly body: Pattern; readonly behind: boolean; readonly negative: boolean }
  | { readonly kind: "atomic"; readonly body: Pattern }
  | { readonly kind: "anchor"; readonly at: Anchor };

interface Flags {
  readonly ignoreCase: boolean;
  /** `(?m)` of Ruby: a dot takes line ends, too. */
  readonly dotAll: boolean;
}

const ANCHORS: Readonly<Record<string, Anchor>> = {
  "^": "line start",
  $: "line end",
  "\\A": "start",
  "\\z": "end",
  "\\Z": "end or last line end",
  "\\b": "edge",
  "\\B": "no edge",
};
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, a: 7, e: 27, 0: 0 };
const isHex = (c: number): boolean => (c >= 48 && c <= 57) || (c >= 65 && c <= 70) || (c >= 97 && c <= 102);
const digit = propertyNamed("digit") as CodePoints;
const SHORTHANDS: Readonly<Record<string, CodePoints>> = {
  d: digit,
  w: isWordInPattern,
  s: isSpace,
  h: isHex,
};
const not =
  (set: CodePoints): CodePoints =>
  (c) =>
    !set(c);
const NEWLINE = 10;
/** Sequences that are one character in another case ("ss", "ß"): matching them without regard to case is not offered. */
const LONG_FOLDS = /ss|ff|fi|fl|st|[ßŉǰΐΰևẖ-ẞﬀ-ﬆ]/iu;

/** The code points that are the same without regard to case, as far as each is one code point. */
function variants(codePoint: number): number[] {
  const character = String.fromCodePoint(codePoint);
  const all = [character, character.toLowerCase(), character.toUpperCase()];
  all.push(all[2].toLowerCase());
  return all.filter((v) => [...v].length === 1).map((v) => v.codePointAt(0) as number);
}

/** @throws InputError naming what of the pattern is not understood; `where` says whose pattern it is */
export function parsePattern(source: string, where: string): Pattern {
  return new Parser(source, where).all();
}

/** Groups and sets within each other; published patterns have three or four. */
const DEEPEST = 100;

class Parser {
  readonly #characters: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(
    readonly source: string,
    readonly where: string,
  ) {
    this.#characters = [...source];
  }

  all(): Pattern {
    const pattern = this.#choice({ ignoreCase: false, dotAll: false });
    if (this.#at < this.#characters.length) this.#refuse(")");
    return pattern;
  }

  #refuse(what: string): never {
    throw new InputError(
      `${this.where}: ${JSON.stringify(what)} at character ${this.#at} of the pattern ${JSON.stringify(this.source)} is not supported; wanted classes, groups, lookaround, repetition, \\p{…} and (?i)`,
    );
  }

  #peek(text: string): boolean {
    return this.#characters.slice(this.#at, this.#at + text.length).join("") === text;
  }

  #take(text: string): boolean {
    if (!this.#peek(text)) return false;
    this.#at += text.length;
    return true;
  }

  #next(): string {
    if (this.#at >= this.#characters.length) this.#refuse("the end");
    return this.#characters[this.#at++];
  }

  /** What the expression matches here, or undefined; it is gone past. */
  #takeMatch(expression: RegExp): RegExpExecArray | undefined {
    const found = expression.exec(this.#characters.slice(this.#at, this.#at + 100).join(""));
    if (found === null) return undefined;
    this.#at += [...found[0]].length;
    return found;
  }

  #deeper<T>(read: () => T): T {
    if (++this.#depth > DEEPEST) this.#refuse(`more than ${DEEPEST} groups within each other`);
    const result = read();
    this.#depth--;
    return result;
  }

  #choice(flags: Flags): Pattern {
    const sequence = (): Pattern => this.#deeper(() => this.#sequence(flags));
    const options = [sequence()];
    while (this.#take("|")) options.push(sequence());
    return options.length === 1 ? options[0] : { kind: "choice", options };
  }

  #sequence(flags: Flags): Pattern {
    const parts: Pattern[] = [];
    const from = this.#at;
    while (this.#at < this.#characters.length && !this.#peek("|") && !this.#peek(")")) {
      const options = this.#takeMatch(/^\(\?([im]*)(?:-([im]+))?\)/);
      // To the end of the group, alternatives included.
      if (options) parts.push(this.#choice(changed(flags, options)));
      else parts.push(this.#repeated(this.#atom(flags)));
    }
    const text = this.#characters.slice(from, this.#at).join("");
    if (flags.ignoreCase && LONG_FOLDS.test(text.replace(/\\p\{[^}]*\}|\[[^\]]*\]|\\./giu, " ")))
      this.#refuse(`(?i:${text})`);
    return parts.length === 1 ? parts[0] : { kind: "sequence", parts };
  }

  #repeated(body: Pattern): Pattern {
    for (;;) {
      const interval = this.#takeMatch(/^\{(\d*)(,?)(\d*)\}/);
      const simple = interval ? undefined : this.#takeMatch(/^([*+?])([?+]?)/);
      if (simple) {
        const [, sign, suffix] = simple;
        const mode = suffix === "?" ? "lazy" : suffix === "+" ? "possessive" : "greedy";
        const [min, max] = [sign === "+" ? 1 : 0, sign === "?" ? 1 : Infinity];
        body = repeated({ kind: "repeat", body, min, max, mode });
      } else if (interval) {
        const [whole, low, comma, high] = interval;
        if (low === "" && high === "") this.#refuse(whole);
        const min = Number(low);
        const max = comma === "" ? min : high === "" ? Infinity : Number(high);
        // `{2}?` makes the whole optional, and `{1,2}+` repeats it, in this syntax.
        const mode = comma !== "" && this.#take("?") ? "lazy" : "greedy";
        if (max < min) this.#refuse(whole);
        body = repeated({ kind: "repeat", body, min, max, mode });
      } else return body;
    }
  }

  #atom(flags: Flags): Pattern {
    const c = this.#next();
    if (c === "(") return this.#group(flags);
    if (c === "[") return { kind: "set", has: remembered(this.#set(flags)) };
    if (c === ".") return { kind: "set", has: flags.dotAll ? () => true : (cp) => cp !== NEWLINE };
    if (c === "*" || c === "+" || c === "?") this.#refuse(c);
    if (c in ANCHORS) return { kind: "anchor", at: ANCHORS[c] };
    if (c !== "\\") return literal(c.codePointAt(0) as number, flags);
    const anchor = `\\${this.#characters[this.#at] ?? ""}`;
    if (anchor in ANCHORS) {
      this.#at++;
      return { kind: "anchor", at: ANCHORS[anchor] };
    }
    const escaped = this.#escape();
    return typeof escaped === "number" ? literal(escaped, flags) : { kind: "set", has: escaped };
  }

  #group(flags: Flags): Pattern {
    const look = this.#takeMatch(/^\?(<?)([=!])/);
    const options = look ? undefined : this.#takeMatch(/^\?([im]*)(?:-([im]+))?:/);
    const isAtomic = !look && !options && this.#take("?>");
    if (!look && !options && !isAtomic && this.#peek("?") && !this.#takeMatch(/^\?<\w+>/)) this.#refuse("(?");
    const body = this.#choice(options ? changed(flags, options) : flags);
    if (!this.#take(")")) this.#refuse("a group without an end");
    if (look) return { kind: "look", body, behind: look[1] === "<", negative: look[2] === "!" };
    return isAtomic ? { kind: "atomic", body } : body;
  }

  /** After a backslash: one code point, or a set. */
  #escape(): number | CodePoints {
    const named = this.#takeMatch(/^[pP]\{(\^?)([^}]+)\}/);
    if (named) {
      const [whole, negation, name] = named;
      // Symbols are of `[:punct:]`, but not of `\p{Punct}`.
      const set = propertyNamed(/^punct$/i.test(name) ? "P" : name) ?? this.#refuse(`\\${whole}`);
      return (whole[0] === "P") !== (negation === "^") ? not(set) : set;
    }
    const code = this.#takeMatch(/^x\{([0-9a-fA-F]{1,6})\}|^x([0-9a-fA-F]{2})|^u([0-9a-fA-F]{4})/);
    if (code) return parseInt(code[1] ?? code[2] ?? code[3], 16);
    const c = this.#next();
    const set = SHORTHANDS[c.toLowerCase()];
    if (set !== undefined) return c === c.toLowerCase() ? set : not(set);
    if (c in CONTROLS) return CONTROLS[c];
    if (/[a-zA-Z0-9]/.test(c)) this.#refuse(`\\${c}`);
    return c.codePointAt(0) as number;
  }

  /** Behind the bracket that opens it; the one that closes it is gone past. */
  #set(flags: Flags): CodePoints {
    const isNegative = this.#take("^");
    const operands: CodePoints[] = [];
    let items: CodePoints[] = [];
    const endOperand = (): void => {
      const all = items;
      operands.push((c) => all.some((item) => item(c)));
      items = [];
    };
    for (let isFirst = true; isFirst || !this.#peek("]"); isFirst = false) {
      if (this.#take("&&")) endOperand();
      else items.push(this.#item(flags));
    }
    this.#at++;
    endOperand();
    const plain: CodePoints = (c) => operands.every((operand) => operand(c));
    // Remembered: within one another, sets would ask for variants of variants, twice as often with each.
    const has: CodePoints = flags.ignoreCase ? remembered((c) => variants(c).some(plain)) : plain;
    return isNegative ? not(has) : has;
  }

  #item(flags: Flags): CodePoints {
    const posix = this.#takeMatch(/^\[:(\^?)(\w+):\]/);
    if (posix) {
      const set = propertyNamed(posix[2]) ?? this.#refuse(posix[0]);
      return posix[1] === "^" ? not(set) : set;
    }
    if (this.#take("[")) return this.#deeper(() => this.#set(flags));
    const first = this.#take("\\") ? this.#escape() : (this.#next().codePointAt(0) as number);
    if (typeof first !== "number") return first;
    if (!this.#peek("-") || this.#characters[this.#at + 1] === "]") return (c) => c === first;
    this.#at++;
    const last = this.#take("\\") ? this.#escape() : (this.#next().codePointAt(0) as number);
    if (typeof last !== "number") this.#refuse("a range up to a class");
    if (last < first) this.#refuse("an empty range");
    return (c) => c >= first && c <= last;
  }
}

/** A set repeated, and that again, is the set repeated: the same matches in the same order, without a group. */
function repeated(outer: Pattern & { kind: "repeat" }): Pattern {
  const { body } = outer;
  const isOne =
    body.kind === "repeat" &&
    body.body.kind === "set" &&
    body.mode === "greedy" &&
    outer.mode !== "lazy" &&
    body.min <= 1 &&
    outer.max > 1;
  if (!isOne) return outer;
  return {
    ...outer,
    body: body.body,
    min: outer.min * body.min,
    max: body.max === 0 ? 0 : outer.max * body.max,
  };
}

function changed(flags: Flags, [, on = "", off = ""]: RegExpExecArray): Flags {
  const value = (letter: string, before: boolean): boolean =>
    off.includes(letter) ? false : on.includes(letter) || before;
  return { ignoreCase: value("i", flags.ignoreCase), dotAll: value("m", flags.dotAll) };
}

function literal(codePoint: number, { ignoreCase }: Flags): Pattern {
  if (!ignoreCase) return { kind: "set", has: (c) => c === codePoint };
  const same = new Set(variants(codePoint));
  return { kind: "set", has: remembered((c) => variants(c).some((v) => same.has(v))) };
}
