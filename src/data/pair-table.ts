/** Merges as numbers: the rank of two neighbouring symbols in a few nanoseconds. */
import type { Merges } from "./merger.js";

export class PairTable implements Merges {
  readonly merged: Int32Array;
  /** Open addressing: left symbol, right symbol, rank; three numbers a slot. */
  readonly #slots: Int32Array;
  readonly #mask: number;

  /** @param merges left symbol, right symbol, and the one that they make, by rank; of a pair that is listed twice, the last counts */
  constructor(merges: readonly (readonly [left: number, right: number, merged: number])[]) {
    let capacity = 1024;
    while (capacity < 2 * merges.length) capacity *= 2;
    this.#mask = capacity - 1;
    this.#slots = new Int32Array(3 * capacity).fill(-1);
    this.merged = new Int32Array(merges.length);
    merges.forEach(([a, b, merged], rank) => {
      this.merged[rank] = merged;
      this.#slots.set([a, b, rank], this.#find(a, b));
    });
  }

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
