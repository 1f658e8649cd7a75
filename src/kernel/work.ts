/** Floating-point operations and bytes of a kernel, as its expression says. */
import { topological } from "./differentiate.js";
import type { Expr, Kernel } from "./kernel.js";
import { type Symbols, concreteDims } from "./symbols.js";
import { elementBytes } from "./workspace.js";

export interface KernelWork {
  /** Of matrix products: two per multiplication. What element-wise ops compute is hidden behind their bytes. */
  readonly flops: number;
  /** Read and written, f32: inputs, parameters and outputs once each. */
  readonly bytes: number;
}

/** @param symbols sizes of all symbols of the kernel, those that a reshape introduces included */
export function kernelWork(kernel: Kernel, symbols: Symbols): KernelWork {
  const flops = topological(kernel.outputs.map((o) => o.expr)).reduce(
    (sum, expr) => sum + productFlops(expr, symbols),
    0,
  );
  const bytes = [...kernel.inputs, ...kernel.outputs].reduce(
    (sum, { expr }) => sum + elementBytes(expr, symbols),
    0,
  );
  return { flops, bytes };
}

/** 2 · elements of the product · inner size. */
function productFlops(expr: Expr, symbols: Symbols): number {
  const inner = innerSize(expr, symbols);
  return inner === 0 ? 0 : 2 * inner * concreteDims(expr.dims, symbols).reduce((a, b) => a * b, 1);
}

function innerSize({ op, inputs, attrs }: Expr, symbols: Symbols): number {
  const sizeOf = (operand: Expr, fromEnd: number): number =>
    concreteDims([operand.dims[operand.dims.length - fromEnd]], symbols)[0];
  if (op === "linear") return sizeOf(inputs[0], 1);
  if (op === "matmul") return sizeOf(inputs[0], attrs.transA ? 2 : 1);
  return op === "gemmAccumulate" ? sizeOf(inputs[1], attrs.transA ? 2 : 1) : 0;
}
