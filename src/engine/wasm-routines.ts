/** The routines as WebAssembly SIMD, instantiated once per arena; operands in other arenas take the plain path. */
import { referenceRoutines as plain } from "./reference-routines.js";
import type { Routines } from "./routines.js";
import { type WasmKernels, wasmKernels } from "./wasm-module.js";

type View = Float32Array | Int32Array | Uint16Array;

/** Bytes of each arena's first page that belong to the routines: statics below, staging above. */
const SCRATCH_START = 16_384;
const SCRATCH_END = 65_536;

function kernelsFor(views: readonly (View | undefined)[]): WasmKernels | undefined {
  const first = views[0] as View;
  for (const view of views) if (view !== undefined && view.buffer !== first.buffer) return undefined;
  return wasmKernels(first.buffer);
}

/** Copies index-like arrays that live outside an arena into its staging area, one after another. */
function stage(buffer: ArrayBufferLike, arrays: readonly (View | undefined)[]): number[] | undefined {
  let at = SCRATCH_START;
  const offsets: number[] = [];
  for (const array of arrays) {
    if (array === undefined) offsets.push(0);
    else if (array.buffer === buffer) offsets.push(array.byteOffset);
    else {
      if (at + array.byteLength > SCRATCH_END) return undefined;
      new Uint8Array(buffer, at, array.byteLength).set(
        new Uint8Array(array.buffer, array.byteOffset, array.byteLength),
      );
      offsets.push(at);
      at += array.byteLength;
    }
  }
  return offsets;
}

/** Token rows handled per call, so that slots and weights of that many rows fit the staging area. */
const rowsPerCall = (K: number): number =>
  Math.max(1, Math.floor((SCRATCH_END - SCRATCH_START) / (4 * (2 * K + 1))));

export const wasmRoutines: Routines = {
  ...plain,
  adamw(p, g, m, v, o) {
    const kernels = kernelsFor([p, g, m, v]);
    if (kernels === undefined) return plain.adamw(p, g, m, v, o);
    kernels.adamw(
      p.byteOffset,
      g.byteOffset,
      m.byteOffset,
      v.byteOffset,
      p.length,
      o.beta1,
      o.beta2,
      o.eps,
      1 - o.learningRate * o.weightDecay,
      o.learningRate / (1 - o.beta1 ** o.step),
      1 / Math.sqrt(1 - o.beta2 ** o.step),
      o.gradScale,
    );
  },
  sumSquares(x) {
    const kernels = kernelsFor([x]);
    return kernels === undefined ? plain.sumSquares(x) : kernels.sumSquares(x.byteOffset, x.length);
  },
  scale(x, factor) {
    const kernels = kernelsFor([x]);
    if (kernels === undefined) return plain.scale(x, factor);
    kernels.scale(x.byteOffset, x.length, factor);
  },
  addInto(y, x) {
    const kernels = kernelsFor([y]);
    if (kernels === undefined) return plain.addInto(y, x);
    if (x.buffer === y.buffer) {
      kernels.add(y.byteOffset, y.byteOffset, x.byteOffset, y.length);
      return;
    }
    const step = (SCRATCH_END - SCRATCH_START) / 4;
    const scratch = new Float32Array(y.buffer, SCRATCH_START, step);
    for (let i = 0; i < y.length; i += step) {
      const part = x.subarray(i, Math.min(x.length, i + step));
      scratch.set(part);
      kernels.add(y.byteOffset + i * 4, y.byteOffset + i * 4, SCRATCH_START, part.length);
    }
  },
  add(out, a, b) {
    const kernels = kernelsFor([out, a, b]);
    if (kernels === undefined) return plain.add(out, a, b);
    kernels.add(out.byteOffset, a.byteOffset, b.byteOffset, out.length);
  },
  combineRows(out, base, rows, slot, weight, scale, { T, K, width }) {
    const kernels = width % 4 === 0 ? kernelsFor([out, base, rows]) : undefined;
    if (kernels === undefined)
      return plain.combineRows(out, base, rows, slot, weight, scale, { T, K, width });
    const step = rowsPerCall(K);
    for (let t = 0; t < T; t += step) {
      const n = Math.min(step, T - t);
      const staged = stage(out.buffer, [
        slot.subarray(t * K, (t + n) * K),
        weight.subarray(t * K, (t + n) * K),
        scale?.subarray(t, t + n),
      ]) as number[];
      kernels.combineRows(
        out.byteOffset + t * width * 4,
        base.byteOffset + t * width * 4,
        rows.byteOffset,
        staged[0],
        staged[1],
        staged[2],
        n,
        K,
        width,
      );
    }
  },
  combineRowsGrad(dRows, dWeight, dScale, dOut, rows, slot, weight, scale, { T, K, width }) {
    const kernels = width % 4 === 0 ? kernelsFor([dRows, dWeight, dScale, dOut, rows]) : undefined;
    if (kernels === undefined)
      return plain.combineRowsGrad(dRows, dWeight, dScale, dOut, rows, slot, weight, scale, { T, K, width });
    const step = rowsPerCall(K);
    for (let t = 0; t < T; t += step) {
      const n = Math.min(step, T - t);
      const staged = stage(dRows.buffer, [
        slot.subarray(t * K, (t + n) * K),
        weight.subarray(t * K, (t + n) * K),
        scale?.subarray(t, t + n),
      ]) as number[];
      kernels.combineRowsGrad(
        dRows.byteOffset,
        dWeight.byteOffset + t * K * 4,
        dScale === undefined ? 0 : dScale.byteOffset + t * 4,
        dOut.byteOffset + t * width * 4,
        rows.byteOffset,
        staged[0],
        staged[1],
        staged[2],
        n,
        K,
        width,
      );
    }
  },
  toBf16(dst, src) {
    const kernels = kernelsFor([dst, src]);
    if (kernels === undefined) return plain.toBf16(dst, src);
    kernels.toBf16(dst.byteOffset, src.byteOffset, src.length);
  },
  fromBf16(dst, src) {
    const kernels = kernelsFor([dst, src]);
    if (kernels === undefined) return plain.fromBf16(dst, src);
    kernels.fromBf16(dst.byteOffset, src.byteOffset, src.length);
  },
};
