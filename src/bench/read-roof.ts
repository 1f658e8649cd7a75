/** The rate at which one thread reads memory: the roof of whatever reads each of its weights once. */
import { addressOf } from "../core/address.js";
import { nowMs } from "../core/clock.js";
import { assert } from "../core/errors.js";
import { libc } from "../core/libc.js";

/** More than caches hold. */
const DEFAULT_BYTES = 2 ** 28;
const [FILLED, SOUGHT] = [1, 0];

export interface ReadRoof {
  readonly memory: Uint8Array;
  /** Reads the memory from its beginning to the byte that is sought, its last. */
  read(): { readonly ms: number; readonly bytes: number };
  /** GB/s (10⁹ bytes) of one reading: to be called between other measurements, since what else the machine does comes and goes. */
  gigabytesPerSecond(): number;
}

/**
 * Memory, each page of it written once, in which the C library looks for the last byte (memchr): a single plain pass. It is
 * a little faster (2 to 5 %) than the loop that a C compiler makes of a sum; a WebAssembly one is slower (5 to 10 %).
 * @param bytes 256 MB unless given; the memory is held as long as the roof is
 */
export function readRoof(bytes = DEFAULT_BYTES): ReadRoof {
  const memchr = libc().func("uintptr_t memchr(uintptr_t from, int byte, size_t bytes)") as unknown as (
    from: bigint,
    byte: number,
    bytes: number,
  ) => number | bigint;
  // Pages that nobody has written would all be one page, which the cache holds.
  const memory = new Uint8Array(bytes).fill(FILLED);
  memory[bytes - 1] = SOUGHT;
  const from = addressOf(memory);
  const read = (): { ms: number; bytes: number } => {
    const start = nowMs();
    const found = memchr(from, SOUGHT, bytes);
    const ms = nowMs() - start;
    assert(BigInt(found) !== 0n, "the byte that is sought is in the memory");
    return { ms, bytes: Number(BigInt(found) - from) + 1 };
  };
  return {
    memory,
    read,
    gigabytesPerSecond() {
      const { ms, bytes: numRead } = read();
      return numRead / 1e6 / ms;
    },
  };
}
