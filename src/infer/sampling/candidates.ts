/** Tokens that may come next, and how likely each is: those of a whole vocabulary, or what is left of them. */
import { exponential } from "./exponential.js";
import { type Cut, type SelectionBuffers, findCut, selectionBuffers } from "./selection.js";

/** In the order of their ids, whatever is left out: numbers that are drawn then mean the same for logits that are nearly the same. */
export class Candidates {
  #count = 0;
  #total = 0;
  readonly #ids: Int32Array;
  readonly #logits: Float32Array;
  readonly #weights: Float64Array;
  readonly #buffers: SelectionBuffers;

  /** @param capacity of the largest vocabulary */
  constructor(readonly capacity: number) {
    this.#ids = new Int32Array(capacity);
    this.#logits = new Float32Array(capacity);
    this.#weights = new Float64Array(capacity);
    this.#buffers = selectionBuffers(capacity);
  }

  get count(): number {
    return this.#count;
  }

  /**
   * Starts with the k likeliest tokens, of equal ones the lowest ids.
   * @param logits [V], none of them NaN
   * @param k 0: all
   */
  take(logits: Float32Array, k: number): void {
    if (k === 0 || k >= logits.length) return this.#takeAll(logits);
    // The k largest of some are no larger than the k largest of all. With so many, about as many are left to choose from.
    const some = Math.ceil(Math.sqrt(k * logits.length));
    this.#takeFrom(logits, findCut(logits, some, undefined, k, this.#buffers).value);
    this.#keep(findCut(this.#logits, this.#count, undefined, k, this.#buffers));
  }

  #takeAll(logits: Float32Array): void {
    this.#logits.set(logits);
    for (let i = 0; i < logits.length; i++) this.#ids[i] = i;
    this.#count = logits.length;
  }

  #takeFrom(logits: Float32Array, least: number): void {
    let count = 0;
    for (let i = 0; i < logits.length; i++) {
      if (logits[i] < least) continue;
      this.#ids[count] = i;
      this.#logits[count++] = logits[i];
    }
    this.#count = count;
  }

  /** Gives each a weight: its probability over that of the likeliest. @param largest logit of all */
  weigh(largest: number, temperature: number): void {
    let total = 0;
    for (let i = 0; i < this.#count; i++)
      total += this.#weights[i] = exponential((this.#logits[i] - largest) / temperature);
    this.#total = total;
  }

  /** Leaves out those with less weight. */
  keepAtLeast(weight: number): void {
    let [count, total] = [0, 0];
    for (let i = 0; i < this.#count; i++) {
      if (this.#weights[i] < weight) continue;
      this.#move(i, count++);
      total += this.#weights[i];
    }
    [this.#count, this.#total] = [count, total];
  }

  /** Leaves the fewest likeliest that together have this share of the weight. */
  keepNucleus(share: number): void {
    const target = share * this.#total;
    // All that are lighter than this would not make up for what may be missing; a little less, because sums are rounded.
    this.keepAtLeast((0.999 * (this.#total - target)) / this.#count);
    this.#keep(findCut(this.#logits, this.#count, this.#weights, target, this.#buffers));
  }

  /** @param share of the weight, below 1: whose it is when weights stand side by side, in the order of ids */
  at(share: number): number {
    let left = share * this.#total;
    for (let i = 0; i < this.#count; i++) if ((left -= this.#weights[i]) < 0) return this.#ids[i];
    return this.#ids[this.#count - 1];
  }

  /** Ids and logits, likeliest first; of equal ones the lowest id. */
  sorted(): (readonly [id: number, logit: number])[] {
    const pairs = Array.from(this.#ids.subarray(0, this.#count), (id, i) => [id, this.#logits[i]] as const);
    return pairs.sort(([a, x], [b, y]) => y - x || a - b);
  }

  #keep({ value, ties }: Cut): void {
    let [count, total, left] = [0, 0, ties];
    for (let i = 0; i < this.#count; i++) {
      if (!(this.#logits[i] > value || (this.#logits[i] === value && left-- > 0))) continue;
      this.#move(i, count++);
      total += this.#weights[i];
    }
    [this.#count, this.#total] = [count, total];
  }

  #move(from: number, to: number): void {
    this.#ids[to] = this.#ids[from];
    this.#logits[to] = this.#logits[from];
    this.#weights[to] = this.#weights[from];
  }
}

let shared = new Candidates(0);

/** Buffers of this thread, for whoever needs them now: nothing in them outlives the choice of a token. */
export function sharedCandidates(vocabSize: number): Candidates {
  if (shared.capacity < vocabSize) shared = new Candidates(vocabSize);
  return shared;
}
