/** Raw addresses of views, for native code and for copies between threads that do not share a buffer object. */
import koffi from "koffi";
import { libc } from "./libc.js";

const bases = new WeakMap<ArrayBufferLike, bigint>();

/** Address of a view's first byte. The buffer must not be detached or collected while the address is in use. */
export function addressOf(view: ArrayBufferView): bigint {
  let base = bases.get(view.buffer);
  if (base === undefined) {
    // Of one byte: an array of bytes cannot be as long as a buffer can.
    base = koffi.address(new Uint8Array(view.buffer, 0, Math.min(1, view.buffer.byteLength)));
    bases.set(view.buffer, base);
  }
  return base + BigInt(view.byteOffset);
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
