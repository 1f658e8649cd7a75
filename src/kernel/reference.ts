import { numElements } from "../core/tensor.js";
import type { Dim, Expr, Kernel } from "./kernel.js";
import { topological } from "./differentiate.js";
import { REFERENCE_RULES, type Values } from "./reference-rules.js";

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
  const symbols = new Map<string, number>();
  for (const { name, expr } of kernel.inputs) {
    const given = bindings[name];
    if (given === undefined) throw new Error(`${kernel.name}: nothing is bound to ${name}`);
    expr.dims.forEach((dim, axis) => {
      if (typeof dim === "string") symbols.set(dim, given.dims[axis]);
    });
  }
  const values = new Map<Expr, Values>();
  for (const expr of topological(kernel.outputs.map((o) => o.expr))) {
    if (expr.op === "input") {
      const given = bindings[expr.attrs.name as string];
      values.set(expr, { data: Float64Array.from(given.data), dims: given.dims });
      continue;
    }
    const inputs = expr.inputs.map((operand) => values.get(operand) as Values);
    const dims = concrete(expr, symbols, inputs);
    const data = REFERENCE_RULES[expr.op](expr, inputs, dims);
    values.set(expr, { data: precision === "f32" ? data.map(Math.fround) : data, dims });
  }
  return Object.fromEntries(kernel.outputs.map(({ name, expr }) => [name, values.get(expr) as Values]));
}

/** Numeric dims; a symbol that a reshape introduces follows from the number of elements. */
function concrete(expr: Expr, symbols: Map<string, number>, inputs: readonly Values[]): number[] {
  const unknown = expr.dims.find((dim) => typeof dim === "string" && !symbols.has(dim));
  if (unknown !== undefined && expr.op === "reshape") {
    const known = expr.dims.reduce<number>((p, d) => p * (d === unknown ? 1 : resolve(d, symbols)), 1);
    symbols.set(unknown as string, numElements(inputs[0].dims) / known);
  }
  return expr.dims.map((dim) => resolve(dim, symbols));
}

function resolve(dim: Dim, symbols: ReadonlyMap<string, number>): number {
  if (typeof dim === "number") return dim;
  const size = symbols.get(dim);
  if (size === undefined) throw new Error(`symbol ${dim} is not bound`);
  return size;
}
