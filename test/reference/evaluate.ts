import type { Expr, Kernel } from "../../src/kernel/kernel.js";
import { topological } from "../../src/kernel/topological.js";
import { REFERENCE_RULES } from "./rules.js";
import type { Values } from "./values.js";
import { bindSymbols, concreteDims } from "../../src/kernel/symbols.js";

export interface ReferenceTensor {
  readonly data: ArrayLike<number>;
  readonly dims: readonly number[];
}

/**
 * Evaluates a kernel slowly, in f64, or rounding every result to f32.
 * @throws Error when a binding is missing
 */
export function evaluate(
  kernel: Kernel,
  bindings: Readonly<Record<string, ReferenceTensor>>,
  precision: "f32" | "f64",
): Record<string, Values> {
  for (const { name } of kernel.inputs)
    if (bindings[name] === undefined) throw new Error(`${kernel.name}: nothing is bound to ${name}`);
  const symbols = bindSymbols(kernel, bindings);
  const values = new Map<Expr, Values>();
  for (const expr of topological(kernel.outputs.map((o) => o.expr))) {
    if (expr.op === "input") {
      const given = bindings[expr.attrs.name as string];
      values.set(expr, { data: Float64Array.from(given.data), dims: given.dims });
      continue;
    }
    const inputs = expr.inputs.map((operand) => values.get(operand) as Values);
    const dims = concreteDims(expr.dims, symbols);
    const data = REFERENCE_RULES[expr.op](expr, inputs, dims);
    values.set(expr, { data: precision === "f32" ? data.map(Math.fround) : data, dims });
  }
  return Object.fromEntries(kernel.outputs.map(({ name, expr }) => [name, values.get(expr) as Values]));
}
