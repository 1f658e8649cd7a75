/**
 * Ops that a WebAssembly pass computes faster than a tensor graph: derivatives that take one pass over memory here and
 * four to ten there. Each computes what its reference rule says (`test/reference/rules.ts`).
 */
import { numElements } from "../core/tensor.js";
import type { Expr } from "../kernel/kernel.js";
import type { OpName } from "../kernel/ops.js";
import type { WasmKernels } from "./wasm-module.js";

export interface RoutineShape {
  readonly out: readonly number[];
  readonly operands: readonly (readonly number[])[];
  readonly op: Expr;
}

export interface KernelRoutine {
  /** Index of the operand whose memory the result may be written over. */
  readonly overwrites?: number;
  /** @param at byte offsets of result and operands in one memory; @param shape dims of the result and of the operands */
  readonly run: (
    w: WasmKernels,
    at: { readonly out: number; readonly inputs: readonly number[] },
    shape: RoutineShape,
  ) => void;
}

/** Rows and length of the last axis. */
function rowsOf(dims: readonly number[]): [number, number] {
  const width = dims[dims.length - 1];
  return [numElements(dims) / width, width];
}

const eps = (op: Expr): number => op.attrs.eps as number;
const [LAYER_NORM, RMS_NORM] = [1, 0];

const normGrad = (centred: number): KernelRoutine => ({
  overwrites: 2,
  run: (w, { out, inputs: [x, weight, dy] }, { operands: [first], op }) =>
    w.normGrad(out, x, weight, dy, ...rowsOf(first), eps(op), centred),
});
const normScaleGrad = (centred: number): KernelRoutine => ({
  run: (w, { out, inputs: [x, dy] }, { operands: [first], op }) =>
    w.normScaleGrad(out, x, dy, ...rowsOf(first), eps(op), centred),
});

const KERNEL_ROUTINES: Readonly<Partial<Record<OpName, KernelRoutine>>> = {
  geluGrad: {
    overwrites: 1,
    run: (w, { out, inputs: [x, dy] }, shape) => w.geluGrad(out, x, dy, numElements(shape.out)),
  },
  siluGrad: {
    overwrites: 1,
    run: (w, { out, inputs: [x, dy] }, shape) => w.siluGrad(out, x, dy, numElements(shape.out)),
  },
  softmaxGrad: {
    overwrites: 1,
    run: (w, { out, inputs: [p, dp] }, shape) => w.softmaxGrad(out, p, dp, ...rowsOf(shape.out)),
  },
  layerNormGrad: normGrad(LAYER_NORM),
  layerNormScaleGrad: normScaleGrad(LAYER_NORM),
  rmsNormGrad: normGrad(RMS_NORM),
  rmsNormScaleGrad: normScaleGrad(RMS_NORM),
  sumPrefixes: {
    run: (w, { out, inputs }, { out: dims, operands }) => {
      const [size, width] = dims.slice(-2);
      const count = numElements(dims) / (size * width);
      inputs.forEach((x, i) => {
        const length = operands[i][dims.length - 2] * width;
        w.addPrefixes(out, x, count, size * width, length, i === 0 ? 1 : 0);
      });
    },
  },
  crossEntropyGrad: {
    run: (w, { out, inputs: [logits, labels, dLoss] }, shape) =>
      w.crossEntropyGrad(out, logits, labels, dLoss, ...rowsOf(shape.out)),
  },
};

/** Worth a routine only where no graph would have to run in between: see `stages.ts`. */
const OPPORTUNISTIC: Readonly<
  Partial<Record<OpName, KernelRoutine & { readonly fits: (e: Expr) => boolean }>>
> = {
  add: {
    fits: ({ inputs: [a, b] }) => a.dims.join() === b.dims.join(),
    overwrites: 0,
    run: (w, { out, inputs: [a, b] }, shape) => w.add(out, a, b, numElements(shape.out)),
  },
  transpose: {
    fits: ({ inputs: [x] }) => x.dims.length === 2,
    run: (w, { out, inputs: [x] }, { operands: [first] }) => w.transpose(out, x, ...rowsOf(first)),
  },
  reduceSum: {
    fits: ({ inputs: [x], attrs }) => x.dims.length === 2 && (attrs.axes as readonly number[]).join() === "0",
    run: (w, { out, inputs: [x] }, { operands: [first] }) => w.columnSums(out, x, ...rowsOf(first)),
  },
};

export function kernelRoutine(expr: Expr): KernelRoutine | undefined {
  return KERNEL_ROUTINES[expr.op] ?? OPPORTUNISTIC[expr.op];
}

/** "always": a graph is cut for its sake; "given": it takes operands that are there without a graph; "never". */
export function routineUse(expr: Expr): "always" | "given" | "never" {
  if (KERNEL_ROUTINES[expr.op] !== undefined) return "always";
  return OPPORTUNISTIC[expr.op]?.fits(expr) ? "given" : "never";
}
