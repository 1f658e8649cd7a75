import { type Random, philox } from "../../../src/core/rng.js";

/** Random choices in a row, all of them from one seed. */
export class Dice {
  readonly #random: Random;
  #index = 0;

  constructor(seed: number) {
    this.#random = philox(seed, "fuzz");
  }

  u32(): number {
    return this.#random.u32(this.#index++);
  }

  below(n: number): number {
    return this.u32() % n;
  }

  chance(share: number): boolean {
    return this.u32() < share * 2 ** 32;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }

  bytes(length: number): Uint8Array {
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.u32();
    return new Uint8Array(words.buffer, 0, length);
  }
}
