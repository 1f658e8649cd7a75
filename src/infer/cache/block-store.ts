/** Blocks of equal size that come and go, in memory that goes with them. */
import { assert } from "../../core/errors.js";
import { type ReservedMemory, pageBytes, reserveMemory } from "../../core/reserved-memory.js";

const BLOCKS_PER_SLAB = 64;

interface Place {
  readonly slab: ReservedMemory;
  /** In elements. */
  readonly start: number;
}

export class BlockStore {
  readonly #held = new Map<number, Place>();
  readonly #free: Place[] = [];
  readonly #stride: number;

  /** @param length elements of a block */
  constructor(readonly length: number) {
    const page = pageBytes() / 4;
    this.#stride = Math.ceil(length / page) * page;
  }

  /** Blocks that are held. */
  get size(): number {
    return this.#held.size;
  }

  /** @returns the address of a new block's memory, which is zero */
  add(block: number): number {
    assert(!this.#held.has(block), `block ${block} of the store is there already`);
    if (this.#free.length === 0) this.#grow();
    const place = this.#free.pop() as Place;
    this.#held.set(block, place);
    return place.slab.address + place.start * 4;
  }

  addressOf(block: number): number {
    const { slab, start } = this.#placeOf(block);
    return slab.address + start * 4;
  }

  drop(block: number): void {
    const place = this.#placeOf(block);
    this.#held.delete(block);
    place.slab.giveBack(place.start, this.#stride);
    this.#free.push(place);
  }

  #placeOf(block: number): Place {
    const place = this.#held.get(block);
    assert(place !== undefined, `block ${block} is not in the store`);
    return place;
  }

  #grow(): void {
    const slab = reserveMemory(BLOCKS_PER_SLAB * this.#stride, "blocks of shared prefixes");
    for (let i = BLOCKS_PER_SLAB - 1; i >= 0; i--) this.#free.push({ slab, start: i * this.#stride });
  }
}
