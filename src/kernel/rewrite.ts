/** Kernels over other expressions: some are replaced, and what is built on them is built anew. */
import * as k from "./build.js";
import type { Expr, Kernel, KernelOutput } from "./kernel.js";

/**
 * Expressions with some of them replaced; shared ones stay shared, and what nothing changes stays the same object.
 * @param replace what takes the place of an expression, over operands that are still to be rewritten; or itself
 */
export function rewriter(replace: (expr: Expr) => Expr): (expr: Expr) => Expr {
  const known = new Map<Expr, Expr>();
  const rewrite = (expr: Expr): Expr => {
    let result = known.get(expr);
    if (result !== undefined) return result;
    const replaced = replace(expr);
    const inputs = replaced.inputs.map(rewrite);
    result = inputs.every((operand, i) => operand === replaced.inputs[i])
      ? replaced
      : { ...replaced, inputs };
    known.set(expr, result);
    return result;
  };
  return rewrite;
}

/** A kernel of some outputs of another, rewritten. @param replace see `rewriter` */
export function rewriteKernel(
  name: string,
  outputs: readonly KernelOutput[],
  replace: (expr: Expr) => Expr,
): Kernel {
  const rewrite = rewriter(replace);
  const aliases = outputs.flatMap((o): [string, string][] => (o.aliasOf ? [[o.name, o.aliasOf]] : []));
  return k.kernel(
    name,
    Object.fromEntries(outputs.map((o) => [o.name, rewrite(o.expr)])),
    Object.fromEntries(aliases),
  );
}
