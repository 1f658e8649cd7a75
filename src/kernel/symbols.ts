/** Symbolic sizes ("T", "R", "B") from the tensors a kernel is given. */
import { assert } from "../core/errors.js";
import { numElements } from "../core/tensor.js";
import { topological } from "./topological.js";
import type { Dim, Expr, Kernel } from "./kernel.js";

export type Symbols = Map<string, number>;

/** Expressions whose dims hold a symbol that no input has: a reshape introduces it. */
const introductions = new WeakMap<Kernel, readonly Expr[]>();

function introductionsOf(kernel: Kernel): readonly Expr[] {
  let found = introductions.get(kernel);
  if (found !== undefined) return found;
  const known = new Set<Dim>(kernel.inputs.flatMap((input) => input.expr.dims));
  const list: Expr[] = [];
  for (const expr of topological(kernel.outputs.map((o) => o.expr))) {
    if (expr.op !== "reshape" || expr.dims.every((dim) => typeof dim === "number" || known.has(dim)))
      continue;
    list.push(expr);
    for (const dim of expr.dims) known.add(dim);
  }
  introductions.set(kernel, (found = list));
  return found;
}

/**
 * Symbols of the inputs by the tensors bound to them; symbols that a reshape introduces (B = T / S) by its number of elements.
 * @param bindings tensors by input name; those that are missing bind nothing
 */
export function bindSymbols(
  kernel: Kernel,
  bindings: Readonly<Record<string, { readonly dims: readonly number[] } | undefined>>,
): Symbols {
  const symbols: Symbols = new Map();
  for (const { name, expr } of kernel.inputs) {
    const given = bindings[name]?.dims;
    if (given !== undefined)
      expr.dims.forEach((dim, axis) => typeof dim === "string" && symbols.set(dim, given[axis]));
  }
  for (const { dims, inputs } of introductionsOf(kernel)) {
    const unknown = dims.find((dim) => sizeOf(dim, symbols) === undefined);
    if (typeof unknown !== "string") continue;
    const others = dims.filter((dim) => dim !== unknown);
    const elements = numElements(concreteDims(inputs[0].dims, symbols));
    symbols.set(unknown, elements / numElements(concreteDims(others, symbols)));
  }
  return symbols;
}

function sizeOf(dim: Dim, symbols: Symbols): number | undefined {
  if (typeof dim === "number") return dim;
  const terms = dim.split("+");
  if (symbols.has(dim) || terms.length === 1) return symbols.get(dim);
  const sizes = terms.map((term) => (/^\d+$/.test(term) ? Number(term) : symbols.get(term)));
  return sizes.reduce((sum, size) => (sum === undefined || size === undefined ? undefined : sum + size), 0);
}

/** Dims with every symbol replaced by its size. */
export function concreteDims(dims: readonly Dim[], symbols: Symbols): number[] {
  return dims.map((dim) => {
    const size = sizeOf(dim, symbols);
    assert(size !== undefined, `symbol ${dim} is not bound`);
    return size;
  });
}
