import { EnvironmentError } from "../core/errors.js";
import type { Arena } from "./arena.js";

const PAGE = 65_536;
const ALIGNMENT = 64;

interface Region {
  offset: number;
  bytes: number;
}

/** Arenas by buffer; weak, so that a dropped arena goes away. */
const arenas = new WeakMap<ArrayBufferLike, SharedArena>();

/** The arena a buffer belongs to, if any. */
export function arenaOf(buffer: ArrayBufferLike): Arena | undefined {
  return arenas.get(buffer);
}

/** The WebAssembly memory behind a buffer, when it is an arena's: routines run directly on it. */
export function memoryOf(buffer: ArrayBufferLike): WebAssembly.Memory | undefined {
  return arenas.get(buffer)?.memory;
}

/**
 * @param capacityBytes at most 4 GiB − 64 KiB. The address space is reserved at once and never grows (growing would detach
 *   views); the system commits pages when they are first touched.
 */
export function createSharedArena(capacityBytes: number, label: string): Arena {
  return new SharedArena(capacityBytes, label);
}

class SharedArena implements Arena {
  readonly memory: WebAssembly.Memory;
  readonly buffer: SharedArrayBuffer;
  /** Free regions by ascending offset; neighbours are merged. */
  #free: Region[];
  readonly #used = new Map<number, number>();
  readonly capacityBytes: number;
  #live = 0;
  #peak = 0;

  constructor(
    capacityBytes: number,
    readonly label: string,
  ) {
    // The first page belongs to the routines' static data.
    const pages = Math.ceil(capacityBytes / PAGE) + 1;
    try {
      this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    } catch (error) {
      throw new EnvironmentError(
        `Cannot reserve ${(capacityBytes / 2 ** 30).toFixed(2)} GiB of memory for ${label}: ${(error as Error).message}; use a smaller model or fewer ranks on this machine`,
      );
    }
    this.buffer = this.memory.buffer;
    arenas.set(this.buffer, this);
    this.capacityBytes = (pages - 1) * PAGE;
    this.#free = [{ offset: PAGE, bytes: this.capacityBytes }];
  }

  get liveBytes(): number {
    return this.#live;
  }

  get peakBytes(): number {
    return this.#peak;
  }

  f32(numElements: number): Float32Array {
    return new Float32Array(this.buffer, this.#take(numElements * 4), numElements);
  }

  i32(numElements: number): Int32Array {
    return new Int32Array(this.buffer, this.#take(numElements * 4), numElements);
  }

  u8(numBytes: number): Uint8Array {
    return new Uint8Array(this.buffer, this.#take(numBytes), numBytes);
  }

  tryF32(numElements: number): Float32Array | undefined {
    const offset = this.#tryTake(numElements * 4);
    return offset === undefined ? undefined : new Float32Array(this.buffer, offset, numElements);
  }

  tryU8(numBytes: number): Uint8Array | undefined {
    const offset = this.#tryTake(numBytes);
    return offset === undefined ? undefined : new Uint8Array(this.buffer, offset, numBytes);
  }

  #take(bytes: number): number {
    const offset = this.#tryTake(bytes);
    if (offset === undefined)
      throw new Error(
        `Arena "${this.label}" has no ${alignedBytes(bytes)} bytes in one piece (${this.capacityBytes - this.#live} of ${this.capacityBytes} free)`,
      );
    return offset;
  }

  #tryTake(bytes: number): number | undefined {
    const wanted = alignedBytes(bytes);
    let best: Region | undefined;
    for (const region of this.#free)
      if (region.bytes >= wanted && (best === undefined || region.bytes < best.bytes)) best = region;
    if (best === undefined) return undefined;
    const { offset } = best;
    best.offset += wanted;
    best.bytes -= wanted;
    if (best.bytes === 0) this.#free.splice(this.#free.indexOf(best), 1);
    this.#used.set(offset, wanted);
    this.#live += wanted;
    this.#peak = Math.max(this.#peak, this.#live);
    return offset;
  }

  free(view: Float32Array | Int32Array | Uint8Array): void {
    const offset = view.byteOffset;
    const bytes = this.#used.get(offset);
    if (bytes === undefined || view.buffer !== this.buffer)
      throw new Error(`Arena "${this.label}": the view at ${offset} is not an allocation of this arena`);
    this.#used.delete(offset);
    this.#live -= bytes;
    const next = this.#free.findIndex((region) => region.offset > offset);
    const at = next < 0 ? this.#free.length : next;
    const before = this.#free[at - 1];
    const after = this.#free[at];
    const joinsBefore = before !== undefined && before.offset + before.bytes === offset;
    const joinsAfter = after !== undefined && offset + bytes === after.offset;
    if (joinsBefore) {
      before.bytes += bytes + (joinsAfter ? after.bytes : 0);
      if (joinsAfter) this.#free.splice(at, 1);
    } else if (joinsAfter) {
      after.offset = offset;
      after.bytes += bytes;
    } else this.#free.splice(at, 0, { offset, bytes });
  }
}

function alignedBytes(bytes: number): number {
  return Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
}
