/**
 * A contiguous region of shared memory (at most 4 GiB each; a run may use many). Backed by a shared
 * WebAssembly.Memory whose pages the system commits when first touched. `alloc` is a best-fit free list with
 * coalescing and 64-byte alignment; `peakBytes` is the high-water mark of live allocations.
 */
export interface Arena {
  readonly label: string;
  readonly buffer: SharedArrayBuffer;
  readonly capacityBytes: number;
  readonly liveBytes: number;
  readonly peakBytes: number;
  /** @throws Error naming the arena, the bytes wanted and the bytes free when it does not fit */
  f32(numElements: number): Float32Array;
  i32(numElements: number): Int32Array;
  u8(numBytes: number): Uint8Array;
  /** As `f32` and `u8`, but undefined when there is no room in one piece; any other error is thrown. */
  tryF32(numElements: number): Float32Array | undefined;
  tryU8(numBytes: number): Uint8Array | undefined;
  /** Returns the allocation that a view was made for. The view must be the one `f32`/`i32`/`u8` returned. */
  free(view: Float32Array | Int32Array | Uint8Array): void;
}
