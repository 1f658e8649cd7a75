/** The routines as WebAssembly SIMD; rows are gathered and scattered in plain TypeScript. */
import { inOneMemory } from "./one-memory.js";
import type { Routines } from "./routines.js";
import { wasmKernels } from "./wasm-module.js";

/** Part of each arena's first page that is free for staging; the routines' statics lie below. */
const SCRATCH_START = 16_384;
const SCRATCH_END = 65_536;

export const wasmRoutines: Routines = {
  adamw: (p, g, m, v, o) =>
    inOneMemory([p, g, m, v], [0, 2, 3], (w, at) => {
      w.adamw(
        ...at,
        p.length,
        o.beta1,
        o.beta2,
        o.eps,
        1 - o.learningRate * o.weightDecay,
        o.learningRate / (1 - o.beta1 ** o.step),
        1 / Math.sqrt(1 - o.beta2 ** o.step),
        o.gradScale,
      );
    }),
  sumSquares: (x) => inOneMemory([x], [], (w, [at]) => w.sumSquares(at, x.length)),
  scale: (x, factor) => inOneMemory([x], [0], (w, [at]) => void w.scale(at, x.length, factor)),
  /** Gradients of another rank lie in another arena, and the buckets' arenas are full: they pass through the scratch page. */
  addInto(y, x) {
    const kernels = x.buffer === y.buffer ? undefined : wasmKernels(y.buffer);
    if (kernels === undefined)
      return inOneMemory([y, x], [0], (w, [to, from]) => void w.add(to, to, from, y.length));
    const step = (SCRATCH_END - SCRATCH_START) / 4;
    const scratch = new Float32Array(y.buffer, SCRATCH_START, step);
    for (let i = 0; i < y.length; i += step) {
      const part = x.subarray(i, Math.min(x.length, i + step));
      scratch.set(part);
      kernels.add(y.byteOffset + i * 4, y.byteOffset + i * 4, SCRATCH_START, part.length);
    }
  },
  gatherRows(out, x, index, width) {
    for (let r = 0; r < index.length; r++)
      out.set(x.subarray(index[r] * width, (index[r] + 1) * width), r * width);
  },
  scatterAddRows(y, x, index, width) {
    for (let r = 0; r < index.length; r++) {
      if (index[r] < 0) continue;
      const to = index[r] * width;
      for (let i = 0; i < width; i++) y[to + i] += x[r * width + i];
    }
  },
  add: (out, a, b) => inOneMemory([out, a, b], [0], (w, at) => void w.add(...at, out.length)),
  combineRows: (out, base, rows, rowOf, weight, scale, { T, K, width }) =>
    inOneMemory(
      [out, base, rows, rowOf, weight, scale],
      [0],
      (w, at) => void w.combineRows(...at, T, K, width),
    ),
  combineRowsGrad: (dRows, dWeight, dScale, dOut, rows, rowOf, weight, scale, { T, K, width }) =>
    inOneMemory(
      [dRows, dWeight, dScale, dOut, rows, rowOf, weight, scale],
      [0, 1, 2],
      (w, at) => void w.combineRowsGrad(...at, T, K, width),
    ),
  toBf16: (dst, src) => inOneMemory([dst, src], [0], (w, at) => void w.toBf16(...at, src.length)),
  fromBf16: (dst, src) => inOneMemory([dst, src], [0], (w, at) => void w.fromBf16(...at, src.length)),
};
