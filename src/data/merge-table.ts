/** The merges of a tokenizer as numbers: the rank of two neighbouring symbols in a few nanoseconds. */
import { BYTE_CHARACTERS, type BpeModel } from "./bpe-model.js";

export class MergeTable {
  /** String of each symbol; the first 256 are the bytes. One string is one symbol, whatever it was merged from. */
  readonly tokens: string[] = [...BYTE_CHARACTERS];
  /** Bytes of each symbol. */
  readonly lengths: readonly number[];
  /** The symbol that a merge makes, by rank. */
  readonly merged: Int32Array;
  /** Open addressing: left symbol, right symbol, rank; three numbers a slot. */
  readonly #slots: Int32Array;
  readonly #mask: number;

  constructor({ merges }: BpeModel) {
    const symbolOf = new Map(this.tokens.map((token, symbol) => [token, symbol]));
    const symbol = (token: string): number => {
      let found = symbolOf.get(token);
      if (found === undefined) symbolOf.set(token, (found = this.tokens.push(token) - 1));
      return found;
    };
    let capacity = 1024;
    while (capacity < 2 * merges.length) capacity *= 2;
    this.#mask = capacity - 1;
    this.#slots = new Int32Array(3 * capacity).fill(-1);
    this.merged = new Int32Array(merges.length);
    merges.forEach(([left, right], rank) => {
      const [a, b] = [symbol(left), symbol(right)];
      this.merged[rank] = symbol(left + right);
      // Of a pair that is listed twice, the last rank counts.
      const slot = this.#find(a, b);
      this.#slots.set([a, b, rank], slot);
    });
    this.lengths = this.tokens.map((token) => token.length);
  }

  /** -1 when the two are not merged. */
  rank(a: number, b: number): number {
    return this.#slots[this.#find(a, b) + 2];
  }

  /** The slot of the pair, or the free one where it would be. */
  #find(a: number, b: number): number {
    const slots = this.#slots;
    let hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let i = hash & this.#mask; ; i = (i + 1) & this.#mask) {
      const slot = 3 * i;
      if (slots[slot] === -1 || (slots[slot] === a && slots[slot + 1] === b)) return slot;
    }
  }
}
