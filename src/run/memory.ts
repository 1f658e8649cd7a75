/**
 * Activation memory of a rank: reference-counted blocks in arenas. A value holds blocks; two values may hold the
 * same block (a transfer on one rank moves nothing), and the last release frees it.
 */
import type { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";

const ARENA_BYTES = 4 * 2 ** 30 - 2 ** 16;

export class Block {
  references = 1;
  constructor(
    readonly f32: Float32Array,
    readonly arena: Arena,
  ) {}

  /** The block's bytes, for the communicator. */
  get u8(): Uint8Array {
    return new Uint8Array(this.f32.buffer, this.f32.byteOffset, this.f32.byteLength);
  }
}

export class Memory {
  readonly #arenas: Arena[] = [];
  #liveBytes = 0;
  #peakBytes = 0;

  constructor(readonly engine: Engine) {}

  /** High-water mark of activation bytes. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  get liveBytes(): number {
    return this.#liveBytes;
  }

  /** Uninitialised floats. Arenas are reserved address space; pages cost memory once touched. */
  allocate(numElements: number): Block {
    const bytes = numElements * 4;
    let block: Block | undefined;
    for (const arena of this.#arenas) {
      if (arena.capacityBytes - arena.liveBytes < bytes) continue;
      const view = tryAllocate(arena, numElements);
      if (view !== undefined) {
        block = new Block(view, arena);
        break;
      }
    }
    if (block === undefined) {
      const arena = this.engine.newArena(ARENA_BYTES, `activations ${this.#arenas.length}`);
      this.#arenas.push(arena);
      block = new Block(arena.f32(numElements), arena);
    }
    this.#liveBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return block;
  }

  release(block: Block): void {
    if (--block.references > 0) return;
    block.arena.free(block.f32);
    this.#liveBytes -= block.f32.byteLength;
  }
}

/** An arena may have the bytes, but not in one piece; then the next arena is tried. */
function tryAllocate(arena: Arena, numElements: number): Float32Array | undefined {
  try {
    return arena.f32(numElements);
  } catch {
    return undefined;
  }
}
