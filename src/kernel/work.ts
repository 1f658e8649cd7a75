/** Floating-point operations and bytes of a kernel, as its expression says. */
import { numElements } from "../core/tensor.js";
import { topological } from "./topological.js";
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

/** 2 · elements of the product · inner size; of attention over a cache as if all of the cache were seen. */
function productFlops({ op, inputs, attrs, dims }: Expr, symbols: Symbols): number {
  if (op === "cachedAttention") return 4 * numElements(concreteDims([...dims, inputs[3].dims[2]], symbols));
  if (op !== "linear" && op !== "quantisedLinear" && op !== "matmul" && op !== "gemmAccumulate") return 0;
  const left = concreteDims(inputs[op === "gemmAccumulate" ? 1 : 0].dims, symbols);
  const inner = left[left.length - (attrs.transA ? 2 : 1)];
  return 2 * inner * numElements(concreteDims(dims, symbols));
}
