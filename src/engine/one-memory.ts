/**
 * WebAssembly sees one memory; tensors may lie in several arenas. What lies elsewhere is copied in, and results copied
 * back out, so that a routine computes the same bits wherever its operands are.
 */
import { assert } from "../core/errors.js";
import type { Arena } from "./arena.js";
import { arenaOf, createSharedArena } from "./shared-arena.js";
import { type WasmKernels, wasmKernels } from "./wasm-module.js";

export type View = Float32Array | Int32Array | Uint16Array;

const SPARE_BYTES = 4 * 2 ** 30 - 2 ** 17;
let spare: Arena | undefined;

/**
 * This thread's arena for tensors that find no room in another. Its address space is reserved; pages take memory once they
 * are written to.
 */
export function spareArena(): Arena {
  spare ??= createSharedArena(SPARE_BYTES, "spare");
  return spare;
}

/**
 * Runs a routine over views of any arenas or none.
 * @param written indices of the views that the routine writes
 * @param run gets the routines and the byte offset of each view (0: absent)
 */
export function inOneMemory<T>(
  views: readonly (View | undefined)[],
  written: readonly number[],
  run: (kernels: WasmKernels, offsets: readonly number[]) => T,
): T {
  const arena = arenaOf(largest(views).buffer) ?? spareArena();
  const kernels = wasmKernels(arena.buffer);
  assert(kernels !== undefined, "an arena's memory has routines");
  const isInside = (view: View | undefined): boolean => view === undefined || view.buffer === arena.buffer;
  if (views.every(isInside))
    return run(
      kernels,
      views.map((view) => view?.byteOffset ?? 0),
    );
  return withCopies(arena, views, written, (offsets, home) =>
    run(wasmKernels(home.buffer) as WasmKernels, offsets),
  );
}

function largest(views: readonly (View | undefined)[]): View {
  const given = views.filter((view) => view !== undefined);
  return given.reduce((a, b) => (b.byteLength > a.byteLength ? b : a));
}

function withCopies<T>(
  arena: Arena,
  views: readonly (View | undefined)[],
  written: readonly number[],
  run: (offsets: readonly number[], home: Arena) => T,
): T {
  const copies: (Uint8Array | undefined)[] = [];
  const copyOf = (i: number): Uint8Array | undefined => copies[firstLike(views, i)];
  try {
    for (const [i, view] of views.entries()) {
      if (view === undefined || view.buffer === arena.buffer || firstLike(views, i) !== i) continue;
      const isLast = arena === spareArena();
      copies[i] = isLast ? arena.u8(view.byteLength) : arena.tryU8(view.byteLength);
      if (copies[i] === undefined) return withCopies(spareArena(), views, written, run);
      copies[i].set(bytesOf(view));
    }
    const result = run(
      views.map((view, i) => (copyOf(i) ?? view)?.byteOffset ?? 0),
      arena,
    );
    for (const i of written) {
      const [view, copy] = [views[i], copyOf(i)];
      if (view !== undefined && copy !== undefined) bytesOf(view).set(copy);
    }
    return result;
  } finally {
    for (const copy of copies) if (copy !== undefined) arena.free(copy);
  }
}

/** A view given twice is one copy: a routine may write over its operand. */
function firstLike(views: readonly (View | undefined)[], index: number): number {
  const { buffer, byteOffset } = views[index] ?? {};
  return views.findIndex((v) => v?.buffer === buffer && v?.byteOffset === byteOffset);
}

function bytesOf(view: View): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
