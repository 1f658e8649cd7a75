/** Ends a text before (or behind) the first of some strings, whatever pieces the text comes in. */
import { InputError } from "../../core/errors.js";
import { shown } from "../../core/shown.js";

/** The text up to where it may go on into a stop string, and no further. */
export interface StopStrings {
  /** @returns what may be handed out now; nothing once a stop string is found */
  add(piece: string): string;
  /** No more text comes. @returns what is left; it may end with a stop string that a longer one might have begun before */
  end(): string;
  /** The stop string that was found. */
  readonly found: string | undefined;
}

/** A place in a trie of the strings (Aho and Corasick 1975). */
interface Node {
  readonly next: Map<number, Node>;
  readonly depth: number;
  /** Where the longest ending of what was read stands that begins a string, too, but this one itself. */
  fallback: Node | undefined;
  /** Length of the longest string that ends here; 0: none does. */
  matched: number;
}

/**
 * Of several stop strings the one that begins first ends the text, and of those the longest: what a search in the whole text would
 * find, however it was cut. A text waits only while what it ends with is the beginning of a stop string. Each character is looked at a few
 * times, however long the strings are.
 * @param strings none of them empty, no half of a surrogate pair
 * @param isIncluded the stop string is left at the end of the text
 * @throws InputError when a string is not one that a text can end with
 */
export function stopStrings(strings: readonly string[], isIncluded = false): StopStrings {
  checkStopStrings(strings);
  const root = trieOf(strings);
  const waiting = new WaitingText();
  let node = root;
  /** Characters read so far. */
  let at = 0;
  let match: { readonly start: number; readonly end: number } | undefined;
  let found: string | undefined;

  /** Hands out the text before the match, and what it is. */
  const close = ({ start, end }: { readonly start: number; readonly end: number }): string => {
    const before = waiting.takeTo(start);
    found = waiting.takeTo(end);
    return isIncluded ? before + found : before;
  };

  return {
    get found() {
      return found;
    },
    add(piece) {
      if (found !== undefined) return "";
      waiting.add(piece);
      for (let i = 0; i < piece.length; i++) {
        node = step(root, node, piece.charCodeAt(i));
        at++;
        if (node.matched > 0 && (match === undefined || at - node.matched <= match.start))
          match = { start: at - node.matched, end: at };
        if (match === undefined) continue;
        // Something that begins earlier may yet come true, or go on from the same place.
        const begun = node.next.size > 0 ? at - node.depth : at;
        if (begun > match.start || (begun === match.start && !isIncluded)) return close(match);
      }
      return waiting.takeTo(at - node.depth);
    },
    end() {
      if (found !== undefined) return "";
      return match === undefined ? waiting.takeTo(at) : close(match);
    },
  };
}

/** @throws InputError when a string is not one that a text can end with */
export function checkStopStrings(strings: readonly string[]): void {
  if (!Array.isArray(strings))
    throw new InputError(`Stop strings are ${shown(strings)}; wanted a list of texts`);
  for (const string of strings as readonly unknown[]) {
    if (typeof string !== "string") throw new InputError(`A stop string is ${shown(string)}; wanted a text`);
    if (string === "") throw new InputError("A stop string is empty; wanted at least one character");
    if (!string.isWellFormed())
      throw new InputError(`The stop string ${JSON.stringify(string)} has half of a surrogate pair`);
  }
}

function trieOf(strings: readonly string[]): Node {
  const nodeAt = (depth: number): Node => ({
    next: new Map(),
    depth,
    fallback: undefined,
    matched: 0,
  });
  const root = nodeAt(0);
  for (const string of strings) {
    let node = root;
    for (let i = 0; i < string.length; i++) {
      const code = string.charCodeAt(i);
      let next = node.next.get(code);
      if (next === undefined) node.next.set(code, (next = nodeAt(i + 1)));
      node = next;
    }
    node.matched = string.length;
  }
  // By depth: what a node falls back to is less deep, and done.
  for (const level of levelsOf(root))
    for (const node of level) {
      for (const [code, next] of node.next)
        next.fallback = node.fallback === undefined ? root : step(root, node.fallback, code);
      node.matched ||= node.fallback?.matched ?? 0;
    }
  return root;
}

function* levelsOf(root: Node): Generator<readonly Node[]> {
  let level: readonly Node[] = [root];
  while (level.length > 0) {
    yield level;
    level = level.flatMap((node) => [...node.next.values()]);
  }
}

function step(root: Node, from: Node, code: number): Node {
  for (let node: Node | undefined = from; node !== undefined; node = node.fallback) {
    const next = node.next.get(code);
    if (next !== undefined) return next;
  }
  return root;
}

/** Text in pieces, from the front of which some is taken now and then. */
class WaitingText {
  #pieces: string[] = [];
  /** The first piece that is left, and where it begins in the whole text. */
  #first = 0;
  #start = 0;

  add(piece: string): void {
    if (piece !== "") this.#pieces.push(piece);
  }

  /** @param end in the whole text; before what was taken: nothing is left to take */
  takeTo(end: number): string {
    let taken = "";
    while (this.#first < this.#pieces.length && this.#start < end) {
      const piece = this.#pieces[this.#first];
      const length = Math.min(piece.length, end - this.#start);
      taken += piece.slice(0, length);
      this.#start += length;
      if (length < piece.length) this.#pieces[this.#first] = piece.slice(length);
      else this.#first++;
    }
    // Seldom, so that all of it together takes no longer than the text.
    if (2 * this.#first > this.#pieces.length) {
      this.#pieces = this.#pieces.slice(this.#first);
      this.#first = 0;
    }
    return taken;
  }
}
