import type { Expr, Kernel } from "../kernel.js";
import { topological } from "../topological.js";
import { packedWeights } from "../fix.js";
import { OnnxGraph, type OutsideInitializer } from "./graph.js";
import { overPairs } from "./row-pairs.js";
import { INFERENCE_RULES, ONNX_RULES } from "./rules.js";

export interface EncodedKernel {
  /** A ModelProto. */
  readonly bytes: Uint8Array;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Values that the model names and does not hold. */
  readonly outside: readonly OutsideInitializer[];
}

/**
 * One kernel as an ONNX model whose inputs and outputs have the kernel's names. Deterministic.
 * @param use "inference": weights of products that are constants stay outside the model, and some ops have quicker nodes
 */
export function encodeOnnx(kernel: Kernel, use: "any" | "inference" = "any"): EncodedKernel {
  const graph = new OnnxGraph();
  const names = new Map<Expr, string>();
  const isInference = use === "inference";
  const rules = isInference ? { ...ONNX_RULES, ...INFERENCE_RULES } : ONNX_RULES;
  const packed = isInference ? packedWeights(kernel) : new Set<Expr>();
  for (const expr of topological(kernel.outputs.map((o) => o.expr))) {
    const operands = expr.inputs.map((operand) => names.get(operand) as string);
    const { values, dims } = expr.attrs;
    const name =
      expr.op === "constant" && packed.has(expr)
        ? graph.packed(values as Float32Array, dims as readonly number[])
        : overPairs(graph, expr, operands, (names) => rules[expr.op](graph, expr, names));
    names.set(expr, name);
  }
  const renamed = nameOutputs(graph, kernel, names);
  graph.keepOnly(renamed.map(({ name }) => name));
  const bytes = graph.encode(
    kernel.name,
    kernel.inputs.map(({ name, expr }) => ({ name, dtype: expr.dtype, dims: expr.dims })),
    renamed.map(({ name, expr }) => ({ name, dtype: expr.dtype, dims: expr.dims })),
  );
  return {
    bytes,
    inputs: kernel.inputs.map((i) => i.name),
    outputs: renamed.map((o) => o.name),
    outside: graph.outside,
  };
}

/** An accumulated gradient has the same name as an output and as an input; ONNX wants them different. */
function onnxOutputName(name: string, kernel: Kernel): string {
  return kernel.inputs.some((i) => i.name === name) ? `${name}_out` : name;
}

function nameOutputs(
  graph: OnnxGraph,
  kernel: Kernel,
  names: ReadonlyMap<Expr, string>,
): { name: string; expr: Expr }[] {
  const given = new Map<string, string>();
  const outputs = kernel.outputs.map(({ name, expr }) => {
    const wanted = onnxOutputName(name, kernel);
    const internal = names.get(expr) as string;
    const isNodeResult = graph.nodes.some(
      (node) => node.output === internal || node.more?.includes(internal) === true,
    );
    if (isNodeResult && !given.has(internal)) given.set(internal, wanted);
    else graph.nodes.push({ op: "Identity", inputs: [internal], output: wanted, attrs: {}, domain: "" });
    return { name: wanted, expr };
  });
  const rename = (name: string): string => given.get(name) ?? name;
  const nodes = graph.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    output: rename(node.output),
    more: node.more?.map(rename),
  }));
  graph.nodes.splice(0, graph.nodes.length, ...nodes);
  return outputs;
}
