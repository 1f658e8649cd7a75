import { BORDER } from "./symbol-row.js";

/**
 * A word as symbols that neighbours can be joined to, whatever characters each stands for: one place per symbol of the word
 * as it was, and links where those between have been joined.
 */
export class LinkedRow {
  readonly symbols: Int32Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;

  constructor(places: number) {
    this.symbols = new Int32Array(places + 2);
    this.#next = new Int32Array(places + 2);
    this.#previous = new Int32Array(places + 2);
  }

  /** Begins anew with the word's symbols. @returns where they end */
  fill(word: ArrayLike<number>): number {
    const end = word.length + 1;
    this.symbols[0] = BORDER;
    this.symbols.set(word, 1);
    this.symbols[end] = BORDER;
    for (let i = 1; i < end; i++) {
      this.#next[i] = i + 1;
      this.#previous[i] = i - 1;
    }
    this.#previous[1] = -1;
    return end;
  }

  /** Where the symbol after the one at `i` begins; there is none when what is there is below 0. */
  next(i: number): number {
    return this.#next[i];
  }

  /** Where the symbol before the one at `i` begins; -1: there is none. */
  previous(i: number): number {
    return this.#previous[i];
  }

  /** Joins the symbol at `i` and the next one. */
  join(i: number, joined: number): void {
    const taken = this.#next[i];
    this.symbols[taken] = -1;
    this.symbols[i] = joined;
    this.#next[i] = this.#next[taken];
    this.#previous[this.#next[i]] = i;
  }
}
