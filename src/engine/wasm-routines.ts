/** The routines as WebAssembly SIMD, instantiated once per arena; operands in other arenas take the plain path. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { EnvironmentError } from "../core/errors.js";
import { referenceRoutines as plain } from "./reference-routines.js";
import type { Routines } from "./routines.js";
import { memoryOf } from "./shared-arena.js";

type Kernels = Record<
  | "adamw"
  | "sumSquares"
  | "scale"
  | "add"
  | "combineRows"
  | "combineRowsGrad"
  | "toBf16"
  | "fromBf16"
  | "geluGrad",
  (...args: number[]) => number
>;

type View = Float32Array | Int32Array | Uint16Array;

/** Bytes of each arena's first page that belong to the routines: statics below, staging above. */
const SCRATCH_START = 16_384;
const SCRATCH_END = 65_536;

let module: WebAssembly.Module | undefined;

function compiled(): WebAssembly.Module {
  if (module !== undefined) return module;
  const here = fileURLToPath(new URL("./routines.wasm", import.meta.url));
  const candidates = [here, here.replace(/src([\\/])engine/, "dist$1engine")];
  for (const path of candidates) {
    try {
      module = new WebAssembly.Module(readFileSync(path));
      return module;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw new EnvironmentError(`The WebAssembly routines are not built (${here}); run: npm run build`);
}

const instances = new WeakMap<WebAssembly.Memory, Kernels>();

function kernelsFor(views: readonly (View | undefined)[]): Kernels | undefined {
  const first = views[0] as View;
  for (const view of views) if (view !== undefined && view.buffer !== first.buffer) return undefined;
  const memory = memoryOf(first.buffer);
  if (memory === undefined) return undefined;
  let kernels = instances.get(memory);
  if (kernels === undefined) {
    kernels = new WebAssembly.Instance(compiled(), { env: { memory } }).exports as unknown as Kernels;
    instances.set(memory, kernels);
  }
  return kernels;
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

/** out = dy·gelu′(x) when all live in one arena and hold whole vectors; false when the caller must do it otherwise. */
export function wasmGeluGrad(out: Float32Array, x: Float32Array, dy: Float32Array): boolean {
  const kernels = kernelsFor([out, x, dy]);
  if (kernels === undefined || out.length % 4 !== 0) return false;
  kernels.geluGrad(out.byteOffset, x.byteOffset, dy.byteOffset, out.length);
  return true;
}
