/**
 * The cache of a rank: what attention keeps of the tokens that it has seen, in buffers that kernels read and append to in
 * place. They are reserved for the longest context and cost what is touched.
 */
import { copyBytes } from "../../core/address.js";
import { assert } from "../../core/errors.js";
import { type ReservedMemory, pageBytes, reserveMemory } from "../../core/reserved-memory.js";
import { type Tensor, tensor } from "../../core/tensor.js";
import { BlockStore } from "./block-store.js";
import { type CacheLayer, granuleRows, rowBytes } from "./kv-cache-size.js";
import type { CacheAction } from "../step-plan.js";

export interface KvCacheShape {
  readonly layers: readonly CacheLayer[];
  readonly slots: number;
  /** Rows of a slot at least. */
  readonly capacity: number;
  /** Rows of a block of the store. */
  readonly blockRows: number;
}

/** Of a layer that keeps one tensor, it is the keys. */
export type CacheTensor = "keys" | "values";

/** [slots, heads, capacity, width]: rows of one head lie together. */
interface Buffer {
  readonly memory: ReservedMemory;
  readonly heads: number;
  readonly width: number;
  /** Where its rows begin in a block, in bytes. */
  readonly blockStart: number;
  /** Views of neighbouring slots that were asked for, by first slot and count. */
  readonly views: Map<number, Tensor<Float32Array>>;
}

/** Fewer are copied faster than their pages are moved. */
const MOVED_BYTES = 1 << 17;
/** Mappings that the moves of one cache may make: a small part of those that a process may have. */
const MOST_MAPPINGS = 4096;

export class KvCache {
  /** Rows of a slot: whole granules, so that no two slots share a page. */
  readonly capacity: number;
  readonly #slots: number;
  readonly #blockRows: number;
  readonly #layers: readonly (readonly Buffer[])[];
  readonly #buffers: readonly Buffer[];
  readonly #store: BlockStore;

  /** @throws EnvironmentError when there is no address space for it */
  constructor({ layers, slots, capacity, blockRows }: KvCacheShape) {
    const granule = granuleRows(layers, pageBytes());
    this.capacity = Math.ceil(capacity / granule) * granule;
    this.#slots = slots;
    this.#blockRows = blockRows;
    let blockStart = 0;
    this.#layers = layers.map(({ heads, width, tensors }, layer) =>
      Array.from({ length: tensors }, () => {
        const what = `the cache of layer ${layer} (${slots} sequences of ${this.capacity} tokens)`;
        const memory = reserveMemory(slots * heads * this.capacity * width, what);
        const buffer = { memory, heads, width, blockStart, views: new Map() };
        blockStart += heads * blockRows * width * 4;
        return buffer;
      }),
    );
    this.#buffers = this.#layers.flat();
    this.#store = new BlockStore((rowBytes(layers) * blockRows) / 4);
  }

  /** Blocks in the store. */
  get blocks(): number {
    return this.#store.size;
  }

  /** @returns [count, heads, capacity, width] of neighbouring slots; the same memory each time */
  view(layer: number, which: CacheTensor, firstSlot: number, count: number): Tensor<Float32Array> {
    const buffer = this.#layers[layer].at(which === "keys" ? 0 : 1);
    assert(buffer !== undefined, `layer ${layer} keeps no ${which}`);
    assert(firstSlot + count <= this.#slots, `slots up to ${firstSlot + count} of ${this.#slots}`);
    const { memory, heads, width, views } = buffer;
    const key = firstSlot * (this.#slots + 1) + count;
    let view = views.get(key);
    if (view === undefined) {
      const perSlot = heads * this.capacity * width;
      const data = memory.data.subarray(firstSlot * perSlot, (firstSlot + count) * perSlot);
      views.set(key, (view = tensor(data, [count, heads, this.capacity, width])));
    }
    return view;
  }

  apply(actions: readonly CacheAction[]): void {
    for (const action of actions) this.#act(action);
  }

  #act(action: CacheAction): void {
    switch (action.kind) {
      case "move":
        return this.#move(action.from, action.to, action.rows);
      case "free":
        return this.#free(action.slot);
      case "store":
        return this.#copyBlock(this.#store.add(action.block), action.slot, action.start, "into");
      case "load":
        return this.#copyBlock(this.#store.addressOf(action.block), action.slot, action.start, "from");
      case "drop":
        return this.#store.drop(action.block);
    }
  }

  /** Afterwards nothing counts in the old slot, nor in the rest of the new one. */
  #move(from: number, to: number, rows: number): void {
    this.#check(from, 0, rows);
    this.#check(to, 0, rows);
    if (from === to) return;
    const mayMovePages = this.#slots * this.#buffers.length <= MOST_MAPPINGS;
    for (const buffer of this.#buffers) {
      const { heads, width, memory } = buffer;
      const perSlot = heads * this.capacity * width;
      const bytes = rows * width * 4;
      if (mayMovePages && heads * bytes >= MOVED_BYTES)
        if (memory.movePages(from * perSlot, to * perSlot, perSlot)) continue;
      for (let head = 0; head < heads; head++)
        copyBytes(this.#address(buffer, to, head, 0), this.#address(buffer, from, head, 0), bytes);
    }
  }

  #free(slot: number): void {
    this.#check(slot, 0, 0);
    for (const { memory, heads, width } of this.#buffers) {
      const perSlot = heads * this.capacity * width;
      memory.giveBack(slot * perSlot, perSlot);
    }
  }

  #copyBlock(block: number, slot: number, start: number, way: "into" | "from"): void {
    const rows = this.#blockRows;
    this.#check(slot, start, rows);
    for (const buffer of this.#buffers) {
      const bytes = rows * buffer.width * 4;
      for (let head = 0; head < buffer.heads; head++) {
        const inBlock = block + buffer.blockStart + head * bytes;
        const inSlot = this.#address(buffer, slot, head, start);
        if (way === "into") copyBytes(inBlock, inSlot, bytes);
        else copyBytes(inSlot, inBlock, bytes);
      }
    }
  }

  #address({ memory, heads, width }: Buffer, slot: number, head: number, row: number): number {
    return memory.address + ((slot * heads + head) * this.capacity + row) * width * 4;
  }

  #check(slot: number, start: number, rows: number): void {
    assert(
      slot >= 0 && slot < this.#slots && start >= 0 && start + rows <= this.capacity,
      `rows ${start} to ${start + rows} of slot ${slot}, in a cache of ${this.#slots} slots of ${this.capacity} rows`,
    );
  }
}
