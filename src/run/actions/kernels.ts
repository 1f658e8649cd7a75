import type { Tensor } from "../../core/tensor.js";
import { splitBackward } from "../../kernel/differentiate.js";
import type { Kernel } from "../../kernel/kernel.js";
import { bindSymbols, concreteDims } from "../../kernel/symbols.js";
import type * as K from "../../program/kinds.js";
import type { Operator } from "../../program/operator.js";
import type { RunContext } from "../context.js";

export function runKernel(op: Operator, context: RunContext): void {
  const data = op.data as K.KernelData;
  const kernel = data.kernel.forward;
  const bindings: Record<string, Tensor> = {};
  for (const [name, value] of Object.entries(data.inputs)) bindings[name] = context.read<Tensor>(value);
  bindParameters(bindings, kernel, data.parameters, context);
  const symbols = bindSymbols(kernel, bindings);
  for (const output of kernel.outputs)
    bindings[output.name] = context.writeTensor(
      data.outputs[output.name],
      concreteDims(output.expr.dims, symbols),
    );
  context.engine.compile(kernel).run(bindings);
}

export function runKernelBackward(op: Operator, context: RunContext): void {
  const data = op.data as K.KernelBackwardData;
  const kernel = data.part === "both" ? data.kernel.backward : splitBackward(data.kernel.backward)[data.part];
  const bindings: Record<string, Tensor> = {};
  for (const input of kernel.inputs) {
    const value = data.inputs[input.name];
    if (value !== undefined) bindings[input.name] = context.read<Tensor>(value);
  }
  bindParameters(bindings, kernel, data.parameters, context);
  const symbols = bindSymbols(kernel, bindings);
  for (const output of kernel.outputs) {
    if (output.aliasOf !== undefined) bindings[output.name] = bindings[output.aliasOf];
    else
      bindings[output.name] = context.writeTensor(
        data.outputs[output.name],
        concreteDims(output.expr.dims, symbols),
      );
  }
  context.engine.compile(kernel).run(bindings);
}

/** Binds weights by parameter name and gradients by `g_<name>`, for whichever of them the kernel reads. */
export function bindParameters(
  bindings: Record<string, Tensor>,
  kernel: Kernel,
  spans: Readonly<Record<string, K.ParameterSpan>>,
  context: RunContext,
): void {
  for (const { name, expr } of kernel.inputs) {
    if (bindings[name] !== undefined) continue;
    const isGradient = name.startsWith("g_");
    const span = spans[isGradient ? name.slice(2) : name];
    if (span === undefined) continue;
    bindings[name] = {
      data: context.parameters.span(span, isGradient ? "gradients" : "weights"),
      dims: expr.dims as readonly number[],
    };
  }
}
