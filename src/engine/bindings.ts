/** What engines check before they run a kernel. */
import { numElements } from "../core/tensor.js";
import type { Dim, Expr, Kernel } from "../kernel/kernel.js";
import type { Bindings } from "./engine.js";

/** Whether a symbolic size is zero, so that there is nothing to compute. @throws Error when a binding does not fit */
export function checkBindings(kernel: Kernel, bindings: Bindings): boolean {
  let empty = false;
  const sizes = new Map<string, number>();
  const check = (name: string, { dims, dtype }: Expr): void => {
    const tensor = bindings[name];
    if (tensor === undefined) throw new Error(`${kernel.name}: nothing is bound to ${name}`);
    const fits = (dim: Dim, size: number): boolean => {
      if (typeof dim === "number") return dim === size;
      if (!sizes.has(dim)) sizes.set(dim, size);
      return sizes.get(dim) === size;
    };
    if (tensor.dims.length !== dims.length || !dims.every((dim, i) => fits(dim, tensor.dims[i]))) {
      const wanted = dims.map((dim) => (sizes.has(String(dim)) ? `${dim} = ${sizes.get(String(dim))}` : dim));
      throw new Error(
        `${kernel.name}: ${name} is [${tensor.dims.join(", ")}], wanted [${wanted.join(", ")}]`,
      );
    }
    const found = tensor.data instanceof Int32Array ? "i32" : "f32";
    if (found !== dtype) throw new Error(`${kernel.name}: ${name} is ${found}, wanted ${dtype}`);
    if (tensor.data.length !== numElements(tensor.dims))
      throw new Error(
        `${kernel.name}: ${name} holds ${tensor.data.length} elements, its dims say [${tensor.dims.join(", ")}]`,
      );
    if (tensor.data.length === 0) empty = true;
  };
  for (const input of kernel.inputs) check(input.name, input.expr);
  for (const output of kernel.outputs) check(output.name, output.expr);
  return empty;
}

/** What a kernel over zero rows leaves: accumulated outputs as they are, the others zero. */
export function zeroOutputs(kernel: Kernel, bindings: Bindings): void {
  for (const output of kernel.outputs) if (output.aliasOf === undefined) bindings[output.name].data.fill(0);
}
