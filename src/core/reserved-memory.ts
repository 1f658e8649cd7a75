/** Address space that costs nothing until it is touched, and whose pages can be given back: for caches that are seldom full. */
import { addressOf } from "./address.js";
import { EnvironmentError, assert } from "./errors.js";
import { libc } from "./libc.js";

const MADV_DONTNEED = 4;
const MADV_NOHUGEPAGE = 15;
/** MREMAP_MAYMOVE, MREMAP_FIXED and MREMAP_DONTUNMAP: pages go, addresses stay. */
const MOVE_PAGES = 1 | 2 | 4;
/** PROT_READ and PROT_WRITE; MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS and MAP_NORESERVE. */
const FRESH_PAGES = [1 | 2, 0x2 | 0x10 | 0x20 | 0x4000] as const;
/** Elements of the largest typed array that every supported Node can make. */
const MOST_FLOATS = 2 ** 32;

interface Pages {
  readonly bytes: number;
  /** 0, or −1 when the system did not. */
  readonly advise: (address: number, bytes: number, advice: number) => number;
  /** Whether the pages of one range are now those of another. If not, the other's are fresh ones. */
  readonly move: (from: number, to: number, bytes: number) => boolean;
}

let known: Pages | undefined;

function pages(): Pages {
  if (known !== undefined) return known;
  // Elsewhere giving back is not promised to leave zeros.
  if (process.platform !== "linux") return (known = { bytes: 4096, advise: () => -1, move: () => false });
  const size = libc().func("int getpagesize()") as unknown as () => number;
  const advise = libc().func(
    "int madvise(uintptr_t address, size_t bytes, int advice)",
  ) as unknown as Pages["advise"];
  const remap = libc().func(
    "uintptr_t mremap(uintptr_t from, size_t bytes, size_t newBytes, int flags, uintptr_t to)",
  ) as unknown as (...args: readonly number[]) => number | bigint;
  const map = libc().func(
    "uintptr_t mmap(uintptr_t address, size_t bytes, int protection, int flags, int file, int64_t offset)",
  ) as unknown as (...args: readonly number[]) => number | bigint;
  const move: Pages["move"] = (from, to, bytes) => {
    if (remap(from, bytes, bytes, MOVE_PAGES, to) === to) return true;
    // It may have failed after it had taken away what was there.
    assert(map(to, bytes, ...FRESH_PAGES, -1, 0) === to, `address ${to} can be mapped again`);
    return false;
  };
  return (known = { bytes: size(), advise, move });
}

/** Bytes of the pages in which memory is taken and given back: a power of two. */
export function pageBytes(): number {
  return pages().bytes;
}

export interface ReservedMemory {
  /** Zero where it has not been written since it was given back; begins on a page. Threads may share it. */
  readonly data: Float32Array;
  /** Address of the first byte. */
  readonly address: number;
  /** Makes a range of elements zero. Under Linux its whole pages are the system's again. */
  giveBack(start: number, length: number): void;
  /**
   * Moves whole pages without copying; where they were reads zero afterwards. Each place that pages have been moved to becomes a mapping
   * of its own, of which a process may have some 65,000.
   * @param from like `to` and `length` a multiple of a page
   * @returns false where the system does not: nothing has been moved, and what was at `to` is lost
   */
  movePages(from: number, to: number, length: number): boolean;
}

/**
 * @param length in elements, at most 2^32
 * @param what named in errors: "the cache of layer 3"
 * @throws EnvironmentError when there is no address space for it
 */
export function reserveMemory(length: number, what: string): ReservedMemory {
  const { bytes: page, advise, move } = pages();
  const buffer = allocate(length, page, what);
  const first = Number(addressOf(new Uint8Array(buffer, 0, 1)));
  const start = roundUp(first, page) - first;
  const data = new Float32Array(buffer, start, length);
  const address = first + start;
  // A huge page would be taken whole for one touched row.
  advise(address, roundUp(length * 4, page), MADV_NOHUGEPAGE);
  return {
    data,
    address,
    giveBack(from, count) {
      const end = from + count;
      const [fromPage, toPage] = [roundUp(from * 4, page) / 4, (end * 4 - ((end * 4) % page)) / 4];
      const whole = toPage - fromPage;
      if (whole <= 0 || advise(address + fromPage * 4, whole * 4, MADV_DONTNEED) !== 0)
        return void data.fill(0, from, end);
      data.fill(0, from, fromPage);
      data.fill(0, toPage, end);
    },
    movePages: (from, to, count) => move(address + from * 4, address + to * 4, count * 4),
  };
}

/** Shared memory comes from the system untouched, which memory of one thread need not. */
function allocate(length: number, page: number, what: string): SharedArrayBuffer {
  try {
    if (length > MOST_FLOATS) throw new Error("more than one array can hold");
    return new SharedArrayBuffer(roundUp(length * 4, page) + page);
  } catch (error) {
    throw new EnvironmentError(
      `Cannot reserve ${((length * 4) / 2 ** 30).toFixed(2)} GiB of address space for ${what}: ${(error as Error).message}; take fewer sequences at once or a shorter context`,
    );
  }
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
