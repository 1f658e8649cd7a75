/**
 * Activation memory of a rank. An allocation counts the values that hold it: on one rank a transfer moves nothing, and its
 * output is its input's memory. The last release frees it.
 */
import { InputError } from "../core/errors.js";
import type { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";

/** Largest arena, and so the largest single tensor. */
export const ARENA_BYTES = 4 * 2 ** 30 - 2 ** 17;

export class Allocation {
  references = 1;
  constructor(
    readonly f32: Float32Array,
    readonly arena: Arena,
  ) {}

  /** The same bytes, for the communicator. */
  get u8(): Uint8Array {
    return new Uint8Array(this.f32.buffer, this.f32.byteOffset, this.f32.byteLength);
  }
}

export class Memory {
  readonly #arenas: Arena[] = [];
  #liveBytes = 0;

  /** @param arenaBytes size of an arena; another is added when one is full */
  constructor(
    readonly engine: Engine,
    readonly arenaBytes = ARENA_BYTES,
  ) {}

  /** High-water mark of bytes in all arenas: values, and what kernels put beside them while they run. */
  get peakBytes(): number {
    return this.#arenas.reduce((sum, arena) => sum + arena.peakBytes, 0);
  }

  get liveBytes(): number {
    return this.#liveBytes;
  }

  /**
   * Uninitialised floats. Arenas are reserved address space; pages cost memory once touched.
   * @throws InputError when one tensor is larger than an arena
   */
  allocate(numElements: number): Allocation {
    const bytes = numElements * 4;
    let allocation: Allocation | undefined;
    for (const arena of this.#arenas) {
      const view = arena.tryF32(numElements);
      if (view !== undefined) {
        allocation = new Allocation(view, arena);
        break;
      }
    }
    if (allocation === undefined) {
      if (bytes > this.arenaBytes)
        throw new InputError(
          `One tensor of ${gib(bytes)} is larger than the limit of ${gib(this.arenaBytes)}; use a smaller train.micro_batch_size or data.sequence_length`,
        );
      const arena = this.engine.newArena(this.arenaBytes, `activations ${this.#arenas.length}`);
      this.#arenas.push(arena);
      allocation = new Allocation(arena.f32(numElements), arena);
    }
    this.#liveBytes += bytes;
    return allocation;
  }

  release(allocation: Allocation): void {
    if (--allocation.references > 0) return;
    allocation.arena.free(allocation.f32);
    this.#liveBytes -= allocation.f32.byteLength;
  }
}

export function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
