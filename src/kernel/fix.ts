import { constant } from "./build.js";
import type { Expr, Kernel } from "./kernel.js";
import { rewriteKernel } from "./rewrite.js";

/** Weights by name; nothing is copied. */
export type FixedParameters = Readonly<
  Record<string, { readonly data: ArrayLike<number>; readonly dims: readonly number[] }>
>;

/**
 * The kernel with some of its parameters as constants over the memory given.
 * @throws Error when one is no parameter of the kernel, has other dims or another type, or is written by the kernel
 */
export function fixParameters(kernel: Kernel, fixed: FixedParameters): Kernel {
  const constants = new Map<string, Expr>();
  for (const [name, { data, dims }] of Object.entries(fixed)) {
    const fail = (text: string): never => {
      throw new Error(`${kernel.name}: ${name} cannot be fixed: ${text}`);
    };
    const given = kernel.inputs.find((i) => i.name === name);
    if (given?.role !== "parameter") return fail("it is no parameter of the kernel");
    if (kernel.outputs.some((o) => o.aliasOf === name)) return fail("the kernel writes it");
    if (!(data instanceof Float32Array) || given.expr.dims.join() !== dims.join())
      return fail(`it is [${dims.join(", ")}], wanted f32 [${given.expr.dims.join(", ")}]`);
    constants.set(name, constant(data, dims));
  }
  return rewriteKernel(kernel.name, kernel.outputs, (expr) =>
    expr.op === "input" ? (constants.get(expr.attrs.name as string) ?? expr) : expr,
  );
}
