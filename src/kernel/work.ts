/** Floating-point operations and bytes of a kernel, as its expression says. */
import { topological } from "./differentiate.js";
import type { Expr, Kernel } from "./kernel.js";
import type { OpName } from "./ops.js";
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

/** The operand whose last axis, or last but one if it is transposed, a product sums over. */
const SUMMED_OPERAND: Partial<Record<OpName, number>> = { linear: 0, matmul: 0, gemmAccumulate: 1 };

function innerSize({ op, inputs, attrs }: Expr, symbols: Symbols): number {
  const index = SUMMED_OPERAND[op];
  if (index === undefined) return 0;
  return concreteDims([inputs[index].dims.at(attrs.transA ? -2 : -1) ?? 0], symbols)[0];
}
