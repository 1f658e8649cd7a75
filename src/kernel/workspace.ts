/** Memory a kernel needs beside its inputs and outputs. */
import { numElements } from "../core/tensor.js";
import { topological } from "./topological.js";
import type { Expr, Kernel } from "./kernel.js";
import { type Symbols, concreteDims } from "./symbols.js";

export function elementBytes(expr: Expr, symbols: Symbols): number {
  return numElements(concreteDims(expr.dims, symbols)) * 4;
}

/**
 * Peak bytes of intermediate results, each living from its op to its last reader, ops in topological order. A result takes the
 * place of an operand of its size that nothing needs any more, as engines do for element-wise ops; reshapes are free.
 */
export function workspaceBytes(kernel: Kernel, symbols: Symbols): number {
  const order = topological(kernel.outputs.map((o) => o.expr));
  const isOutside = new Set<Expr>([...kernel.inputs, ...kernel.outputs].map((v) => v.expr));
  const readersLeft = new Map<Expr, number>();
  for (const expr of order)
    for (const operand of new Set(expr.inputs)) readersLeft.set(operand, (readersLeft.get(operand) ?? 0) + 1);
  const isScratch = (expr: Expr): boolean =>
    !isOutside.has(expr) && expr.op !== "input" && expr.op !== "constant" && expr.op !== "reshape";
  let [live, peak] = [0, 0];
  for (const expr of order) {
    const dying = [...new Set(expr.inputs)].filter((operand) => {
      const left = (readersLeft.get(operand) as number) - 1;
      readersLeft.set(operand, left);
      return left === 0 && isScratch(operand);
    });
    const bytes = isScratch(expr) ? elementBytes(expr, symbols) : 0;
    const reused = dying.find((operand) => elementBytes(operand, symbols) === bytes);
    live += reused === undefined ? bytes : 0;
    peak = Math.max(peak, live);
    for (const operand of dying) if (operand !== reused) live -= elementBytes(operand, symbols);
  }
  return peak;
}
