/** Parameters that become part of a kernel. */
import { constant, quantisedLinear } from "./build.js";
import { topological } from "./topological.js";
import type { Expr, Kernel } from "./kernel.js";
import type { QuantisedMatrix } from "./quantise.js";
import { rewriteKernel } from "./rewrite.js";

/** A weight as it is fixed: a matrix of products may be quantised. Nothing is copied. */
export type FixedParameter =
  { readonly data: ArrayLike<number>; readonly dims: readonly number[] } | QuantisedMatrix;

/** Weights by name. */
export type FixedParameters = Readonly<Record<string, FixedParameter>>;

/** Parameters and constants that a kernel reads as the weight of `linear` and in no other way. */
export function linearWeights(kernel: Kernel): ReadonlySet<Expr> {
  return readOnlyAs(kernel, ({ op }, i) => op === "linear" && i === 1);
}

/** Those that it reads as the right side of a product of two matrices, which engines pack, and in no other way. */
export function packedWeights(kernel: Kernel): ReadonlySet<Expr> {
  const isProduct = ({ op, dims }: Expr): boolean =>
    op === "linear" || (op === "matmul" && dims.length === 2);
  return readOnlyAs(kernel, (expr, i) => isProduct(expr) && i === 1);
}

function readOnlyAs(kernel: Kernel, isWeight: (expr: Expr, operand: number) => boolean): ReadonlySet<Expr> {
  const [weights, others] = [new Set<Expr>(), new Set<Expr>(kernel.outputs.map((o) => o.expr))];
  for (const expr of topological(kernel.outputs.map((o) => o.expr)))
    expr.inputs.forEach((operand, i) => (isWeight(expr, i) ? weights : others).add(operand));
  return new Set([...weights].filter((w) => !others.has(w) && (w.op === "input" || w.op === "constant")));
}

/** Names of the parameters that may be fixed in quantised form. */
export function quantisable(kernel: Kernel): ReadonlySet<string> {
  const names = (wanted: boolean): string[] =>
    topological(kernel.outputs.map((o) => o.expr)).flatMap((e) =>
      e.op === "input" && (weights.has(e) && e.attrs.isExact !== true) === wanted
        ? [e.attrs.name as string]
        : [],
    );
  const weights = linearWeights(kernel);
  // A parameter may be several expressions of one name.
  const other = new Set(names(false));
  return new Set(names(true).filter((name) => !other.has(name)));
}

/**
 * The kernel with some of its parameters as constants over the memory given. Products with quantised ones are computed by
 * `quantisedLinear`.
 * @throws Error when one is no parameter of the kernel, has other dims or another type, is written by the kernel, or is
 *   quantised and exact or not a weight of `linear` alone
 */
export function fixParameters(kernel: Kernel, fixed: FixedParameters): Kernel {
  const constants = new Map<string, Expr>();
  const quantised = new Map<string, QuantisedMatrix>();
  const mayBeQuantised = quantisable(kernel);
  for (const [name, weight] of Object.entries(fixed)) {
    const fail = (text: string): never => {
      throw new Error(`${kernel.name}: ${name} cannot be fixed: ${text}`);
    };
    const given = kernel.inputs.find((i) => i.name === name);
    if (given?.role !== "parameter") return fail("it is no parameter of the kernel");
    if (kernel.outputs.some((o) => o.aliasOf === name)) return fail("the kernel writes it");
    const isQuantised = "packed" in weight;
    if (
      (!isQuantised && !(weight.data instanceof Float32Array)) ||
      given.expr.dims.join() !== weight.dims.join()
    )
      return fail(`it is [${weight.dims.join(", ")}], wanted f32 [${given.expr.dims.join(", ")}]`);
    if (!isQuantised) constants.set(name, constant(weight.data as Float32Array, weight.dims));
    else if (mayBeQuantised.has(name)) quantised.set(name, weight);
    else return fail("it is quantised, and is exact or read by other ops than linear");
  }
  return rewriteKernel(kernel.name, kernel.outputs, (expr) => {
    if (expr.op === "linear") {
      const [x, w, b] = expr.inputs;
      const matrix = w.op === "input" ? quantised.get(w.attrs.name as string) : undefined;
      return matrix === undefined ? expr : quantisedLinear(x, matrix, b);
    }
    return expr.op === "input" ? (constants.get(expr.attrs.name as string) ?? expr) : rowsOfConstant(expr);
  });
}

/** Some rows of a constant are a constant over the same memory: an engine would copy them. */
function rowsOfConstant(expr: Expr): Expr {
  const [source] = expr.inputs;
  if (expr.op !== "slice" || expr.attrs.axis !== 0 || source.op !== "constant") return expr;
  const rowSize = source.dims.slice(1).reduce<number>((product, dim) => product * Number(dim), 1);
  const [start, end] = [expr.attrs.start as number, expr.attrs.end as number];
  const values = (source.attrs.values as Float32Array).subarray(start * rowSize, end * rowSize);
  return constant(values, expr.dims as readonly number[]);
}
