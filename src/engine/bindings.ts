/** What engines check before they run a kernel. */
import { numElements } from "../core/tensor.js";
import type { Dim, Kernel } from "../kernel/kernel.js";
import type { Bindings } from "./engine.js";

/** Whether a symbolic size is zero, so that there is nothing to compute. @throws Error when a binding does not fit */
export function checkBindings(kernel: Kernel, bindings: Bindings): boolean {
  let empty = false;
  const check = (name: string, dims: readonly Dim[]): void => {
    const tensor = bindings[name];
    if (tensor === undefined) throw new Error(`${kernel.name}: nothing is bound to ${name}`);
    const fits =
      tensor.dims.length === dims.length &&
      dims.every((dim, i) => typeof dim === "string" || dim === tensor.dims[i]);
    if (!fits)
      throw new Error(`${kernel.name}: ${name} is [${tensor.dims.join(", ")}], wanted [${dims.join(", ")}]`);
    if (tensor.data.length !== numElements(tensor.dims))
      throw new Error(
        `${kernel.name}: ${name} holds ${tensor.data.length} elements, its dims say [${tensor.dims.join(", ")}]`,
      );
    if (tensor.data.length === 0) empty = true;
  };
  for (const input of kernel.inputs) check(input.name, input.expr.dims);
  for (const output of kernel.outputs) check(output.name, output.expr.dims);
  return empty;
}

/** What a kernel over zero rows leaves: accumulated outputs as they are, the others zero. */
export function zeroOutputs(kernel: Kernel, bindings: Bindings): void {
  for (const output of kernel.outputs) if (output.aliasOf === undefined) bindings[output.name].data.fill(0);
}
