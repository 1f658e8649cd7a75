/** Raw addresses of views, for native code and for copies between threads that do not share a buffer object. */
import koffi from "koffi";
import { libc } from "./libc.js";

const bases = new WeakMap<ArrayBufferLike, number>();

/** Address of a view's first byte. The buffer must not be detached or collected while the address is in use. */
export function addressOf(view: ArrayBufferView): bigint {
  return BigInt(addressNumber(view));
}

/** The same, exactly: addresses have fewer bits than a number holds. */
export function addressNumber(view: ArrayBufferView): number {
  const { buffer } = view;
  let base = bases.get(buffer);
  if (base === undefined) {
    // Of one byte: an array of bytes cannot be as long as a buffer can.
    base = Number(koffi.address(new Uint8Array(buffer, 0, Math.min(1, buffer.byteLength))));
    bases.set(buffer, base);
  }
  return base + view.byteOffset;
}

let memcpy: ((to: number, from: number, bytes: number) => void) | undefined;

/** memcpy between two addresses; the caller keeps both buffers alive. */
export function copyBytes(to: number, from: number, bytes: number): void {
  if (bytes === 0) return;
  memcpy ??= libc().func(
    "void memcpy(uintptr_t to, uintptr_t from, size_t bytes)",
  ) as unknown as typeof memcpy;
  memcpy?.(to, from, bytes);
}
