/** The rate at which one thread reads memory: the roof of whatever reads each of its weights once. */
import { nowMs } from "../core/clock.js";
import { assert } from "../core/errors.js";
import { createSharedArena } from "../engine/shared-arena.js";
import { wasmKernels } from "../engine/wasm-module.js";

/** More than caches hold. */
const DEFAULT_BYTES = 2 ** 28;

export interface ReadRoof {
  readonly words: Int32Array;
  /** Reads all words once, from the first to the last. @returns their sum modulo 2³², which an optimiser cannot leave out */
  read(): { readonly ms: number; readonly sum: number };
  /** GB/s (10⁹ bytes) of one reading: to be called between other measurements, since what else the machine does comes and goes. */
  gigabytesPerSecond(): number;
}

/**
 * Memory, each page of it written once, for a plain pass of WebAssembly. In processor time that takes as long, within 3 %, as the
 * loop that a C compiler makes of a sum; what the C library knows of vector lengths (memchr) is 2 to 7 % faster.
 * @param bytes a multiple of 4; the memory is held as long as the roof is
 */
export function readRoof(bytes = DEFAULT_BYTES): ReadRoof {
  const words = createSharedArena(bytes, "the read roof").i32(bytes / 4);
  // Pages that nobody has written would all be one page, which the cache holds.
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x9e3779b1);
  const wasm = wasmKernels(words.buffer);
  assert(wasm !== undefined, "routines run on the memory of an arena");
  const read = (): { ms: number; sum: number } => {
    const start = nowMs();
    const sum = wasm.sumWords(words.byteOffset, words.length);
    return { ms: nowMs() - start, sum: sum >>> 0 };
  };
  // The first reading also compiles.
  read();
  return { words, read, gigabytesPerSecond: () => bytes / 1e6 / read().ms };
}
