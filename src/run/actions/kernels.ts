import type { Tensor } from "../../core/tensor.js";
import type { Bindings, Executable } from "../../engine/engine.js";
import { type FixedParameter, quantisable } from "../../kernel/fix.js";
import type { Kernel } from "../../kernel/kernel.js";
import { kernelKey } from "../../kernel/key.js";
import { FORM_BITS } from "../../kernel/quantise.js";
import { bindSymbols, concreteDims } from "../../kernel/symbols.js";
import type * as K from "../../program/kinds.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type Services, computing } from "../context.js";

export function bindKernel({ data }: OperatorOf<"kernel" | "kernel'">, services: Services): Run {
  const { kernel, inputs, outputs } = data;
  const { run, parameters } = withParameters(kernel, data.parameters, services);
  const given = kernel.inputs.flatMap(({ name }) =>
    inputs[name] === undefined ? [] : [[name, inputs[name]] as const],
  );
  const sizes = outputSizes(kernel);
  return computing((context) => {
    const bindings: Record<string, Tensor> = { ...parameters };
    for (const [name, value] of given) bindings[name] = context.read<Tensor>(value);
    const dims = sizes(bindings);
    kernel.outputs.forEach(({ name, aliasOf }, i) => {
      const value = outputs[name];
      if (aliasOf === undefined) bindings[name] = context.writeTensor(value, dims[i]);
      else {
        bindings[name] = bindings[aliasOf];
        // Updated in place: a state by its new name.
        if (value !== undefined) context.write(value, bindings[aliasOf], context.hold(inputs[aliasOf]));
      }
    });
    run(bindings);
  });
}

/** Dims of each output, by what the kernel is given; remembered, since steps are mostly alike. */
function outputSizes(kernel: Kernel): (bindings: Bindings) => readonly (readonly number[])[] {
  const open = kernel.inputs.flatMap(({ name, expr: { dims } }) =>
    dims.flatMap((dim, axis) => (typeof dim === "string" ? [{ name, axis }] : [])),
  );
  const sizes = new Array<number | undefined>(open.length);
  let known: readonly (readonly number[])[] | undefined;
  return (bindings) => {
    let isAsBefore = known !== undefined;
    for (let i = 0; i < open.length; i++) {
      const { name, axis } = open[i];
      const size = bindings[name]?.dims[axis];
      if (size === sizes[i]) continue;
      sizes[i] = size;
      isAsBefore = false;
    }
    if (isAsBefore && known !== undefined) return known;
    const symbols = bindSymbols(kernel, bindings);
    return (known = kernel.outputs.map(({ aliasOf, expr }) =>
      aliasOf === undefined ? concreteDims(expr.dims, symbols) : [],
    ));
  };
}

export interface KernelWithParameters {
  /** Weights by parameter name, if they are not fixed, and gradients by `g_<name>`, for whichever of them the kernel reads. */
  readonly parameters: Bindings;
  /** @param bindings everything, parameters included */
  readonly run: (bindings: Bindings) => void;
}

type KernelSpans = Readonly<Record<string, K.ParameterSpan>>;

/** Compiles a kernel and finds its parameters. */
export function withParameters(kernel: Kernel, spans: KernelSpans, services: Services): KernelWithParameters {
  const { engine, weights, gradients, hasFixedWeights } = services;
  const parameters: Record<string, Tensor> = {};
  for (const { name, expr } of kernel.inputs) {
    const isGradient = name.startsWith("g_");
    const span = spans[isGradient ? name.slice(2) : name];
    if (span === undefined || (hasFixedWeights && !isGradient)) continue;
    const data = isGradient ? gradients?.span(span) : weights.span(span);
    if (data === undefined) throw new Error(`${kernel.name} adds to gradients, but this session has none`);
    parameters[name] = { data, dims: expr.dims as readonly number[] };
  }
  const reads = kernel.inputs.some(({ name }) => spans[name] !== undefined);
  // Without weights a kernel is the same in every layer.
  const executable =
    hasFixedWeights && reads ? compileFixed(kernel, spans, services) : engine.compile(kernel);
  return { parameters, run: (bindings) => executable.run(bindings) };
}

function compileFixed(
  kernel: Kernel,
  spans: KernelSpans,
  { engine, weights, form = "f32" }: Services,
): Executable {
  const { compiled } = weights;
  const key = compiled === undefined ? "" : `${form} ${JSON.stringify(spans)} ${kernelKey(kernel)}`;
  const known = compiled?.get(key);
  if (known !== undefined) return known;
  const bits = FORM_BITS[form];
  const inBits = bits === undefined ? undefined : quantisable(kernel);
  const fixed: Record<string, FixedParameter> = {};
  try {
    for (const { name, expr } of kernel.inputs) {
      if (spans[name] === undefined) continue;
      const dims = expr.dims as readonly number[];
      fixed[name] =
        bits !== undefined && inBits?.has(name)
          ? weights.quantised(spans[name], { dims, bits })
          : { data: weights.span(spans[name]), dims };
    }
    const executable = engine.compile(kernel, fixed);
    compiled?.set(key, executable);
    return executable;
  } finally {
    weights.takeBack();
  }
}
