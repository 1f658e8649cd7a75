/** How often symbols are neighbours in a corpus, kept up to date while the most frequent pair is merged. */
import { BORDER, SymbolRow, writeBytes } from "./symbol-row.js";

/** A word that occurs in the corpus, and how often. */
export type CountedWord = readonly [word: string, count: number];

/** Two symbols that are neighbours somewhere. */
export interface Pair {
  readonly a: number;
  readonly b: number;
  /** When it was first seen: ties go to the pair seen first. */
  readonly order: number;
  count: number;
  /**
   * First and last of the places where it occurs, -1 when there is none: word by word, from left to right in each. All places of a
   * pair come up in one merge (the one that made the younger symbol), which is why new ones belong at the end.
   */
  first: number;
  last: number;
  /** Index in the heap, and the count that this follows from: pairs whose count changes are moved one after the other. */
  at: number;
  settled: number;
}

/** Symbols there can be; the square is a whole number that a double can hold. */
const MOST_SYMBOLS = 2 ** 26;

/** Memory: 12 bytes per byte of the words. */
export class PairCounts {
  readonly #lengths: number[] = Array.from({ length: 256 }, () => 1);
  readonly #row: SymbolRow;
  /** Where words begin, and one past the last; their counts. */
  readonly #starts: Int32Array;
  readonly #counts: Float64Array;
  readonly #pairs = new Map<number, Pair>();
  /** For each place, the next and the previous one of the same pair. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** Of pairs, the best first. */
  readonly #heap: Pair[] = [];
  readonly #tick: () => void;
  #seen = 0;

  /** @param tick called for every place looked at */
  constructor(words: readonly CountedWord[], tick: () => void) {
    this.#tick = tick;
    const places = words.reduce((sum, [word]) => sum + Buffer.byteLength(word) + 1, 1);
    const symbols = new Int32Array(places).fill(BORDER);
    this.#row = new SymbolRow(symbols, this.#lengths);
    this.#next = new Int32Array(places);
    this.#previous = new Int32Array(places);
    this.#starts = new Int32Array(words.length + 1);
    this.#counts = Float64Array.from(words, ([, count]) => count);
    let at = 1;
    words.forEach(([word, count], index) => {
      this.#starts[index] = at;
      const end = at + writeBytes(word, symbols, at);
      for (; at + 1 < end; at++) this.#add(symbols[at], symbols[at + 1], at, count);
      at = end + 1;
    });
    this.#starts[words.length] = at;
    for (const pair of this.#pairs.values()) this.#settle(pair);
  }

  /** The most frequent pair; of several, the one seen first. */
  best(): Pair | undefined {
    return this.#heap.at(0);
  }

  /** Puts a new symbol, whose id is the next free one, in the place of a pair: in every word from left to right. */
  merge(pair: Pair): void {
    const merged = this.#lengths.push(this.#lengths[pair.a] + this.#lengths[pair.b]) - 1;
    const changed = new Set<Pair>([pair]);
    for (let word = 0; pair.first >= 0;) {
      word = this.#wordOf(pair.first, word);
      const count = this.#counts[word];
      const joined: number[] = [];
      for (let place = pair.first; place >= 0 && place < this.#starts[word + 1]; place = pair.first) {
        if (place < this.#starts[word]) break;
        this.#join(place, merged, count, changed);
        joined.push(place);
      }
      // Only now, so that a pair that the next join undoes is never seen.
      for (const place of joined) this.#addNeighbours(merged, place, count, changed);
    }
    for (const touched of changed) this.#settle(touched);
  }

  #join(place: number, merged: number, count: number, changed: Set<Pair>): void {
    const before = this.#row.previous(place);
    const second = this.#row.next(place);
    // What a join just now has left before this one is not counted yet.
    if (before >= 0 && this.#row.symbols[before] !== merged) this.#remove(before, count, changed);
    this.#remove(place, count, changed);
    if (this.#row.symbols[this.#row.next(second)] >= 0) this.#remove(second, count, changed);
    this.#row.join(place, merged);
  }

  #addNeighbours(merged: number, place: number, count: number, changed: Set<Pair>): void {
    const { symbols } = this.#row;
    const before = this.#row.previous(place);
    if (before >= 0 && symbols[before] !== merged)
      changed.add(this.#add(symbols[before], merged, before, count));
    const after = symbols[this.#row.next(place)];
    if (after >= 0) changed.add(this.#add(merged, after, place, count));
  }

  /** The word that a place lies in; `near` is tried first. */
  #wordOf(place: number, near: number): number {
    const starts = this.#starts;
    let [low, high] = [0, starts.length - 1];
    for (let word = near; high - low > 1; word = (low + high) >> 1) {
      if (starts[word] <= place) low = Math.max(low, word);
      else high = word;
      if (place < starts[low + 1]) return low;
    }
    return low;
  }

  /** Counts the pair (a, b) at a place. */
  #add(a: number, b: number, place: number, count: number): Pair {
    this.#tick();
    const key = a * MOST_SYMBOLS + b;
    let pair = this.#pairs.get(key);
    if (pair === undefined) {
      pair = { a, b, order: this.#seen++, count: 0, first: -1, last: -1, at: -1, settled: 0 };
      this.#pairs.set(key, pair);
    }
    pair.count += count;
    this.#previous[place] = pair.last;
    this.#next[place] = -1;
    if (pair.last >= 0) this.#next[pair.last] = place;
    else pair.first = place;
    pair.last = place;
    return pair;
  }

  /** Counts the pair at a place no longer. */
  #remove(place: number, count: number, changed: Set<Pair>): void {
    this.#tick();
    const { symbols } = this.#row;
    const pair = this.#pairs.get(symbols[place] * MOST_SYMBOLS + symbols[this.#row.next(place)]) as Pair;
    const [previous, next] = [this.#previous[place], this.#next[place]];
    if (previous >= 0) this.#next[previous] = next;
    else pair.first = next;
    if (next >= 0) this.#previous[next] = previous;
    else pair.last = previous;
    pair.count -= count;
    changed.add(pair);
  }

  /** Moves a pair to where its count belongs in the heap. One that is nowhere any more never comes back: both its symbols are old. */
  #settle(pair: Pair): void {
    const heap = this.#heap;
    pair.settled = pair.count;
    if (pair.count > 0) {
      if (pair.at < 0) pair.at = heap.push(pair) - 1;
      this.#sink(this.#rise(pair));
      return;
    }
    this.#pairs.delete(pair.a * MOST_SYMBOLS + pair.b);
    const last = heap.at(-1);
    if (pair.at < 0 || last === undefined) return;
    heap.pop();
    if (last === pair) return;
    heap[(last.at = pair.at)] = last;
    this.#sink(this.#rise(last));
  }

  #rise(pair: Pair): Pair {
    const heap = this.#heap;
    for (let above = heap[(pair.at - 1) >> 1]; pair.at > 0 && isBetter(pair, above);) {
      const { at } = above;
      heap[(above.at = pair.at)] = above;
      heap[(pair.at = at)] = pair;
      above = heap[(at - 1) >> 1];
    }
    return pair;
  }

  #sink(pair: Pair): void {
    const heap = this.#heap;
    for (let child = 2 * pair.at + 1; child < heap.length; child = 2 * pair.at + 1) {
      if (child + 1 < heap.length && isBetter(heap[child + 1], heap[child])) child++;
      const below = heap[child];
      if (isBetter(pair, below)) return;
      heap[(below.at = pair.at)] = below;
      heap[(pair.at = child)] = pair;
    }
  }
}

function isBetter(x: Pair, y: Pair): boolean {
  return x.settled !== y.settled ? x.settled > y.settled : x.order < y.order;
}
