import type { Expr, Kernel } from "../kernel.js";
import { topological } from "../differentiate.js";
import { OnnxGraph } from "./graph.js";
import { ONNX_RULES } from "./rules.js";

export interface EncodedKernel {
  /** A ModelProto. */
  readonly bytes: Uint8Array;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** One kernel as an ONNX model whose inputs and outputs have the kernel's names. Deterministic. */
export function encodeOnnx(kernel: Kernel): EncodedKernel {
  const graph = new OnnxGraph();
  const names = new Map<Expr, string>();
  for (const expr of topological(kernel.outputs.map((o) => o.expr)))
    names.set(
      expr,
      ONNX_RULES[expr.op](
        graph,
        expr,
        expr.inputs.map((operand) => names.get(operand) as string),
      ),
    );
  const renamed = nameOutputs(graph, kernel, names);
  const bytes = graph.encode(
    kernel.name,
    kernel.inputs.map(({ name, expr }) => ({ name, dtype: expr.dtype, dims: expr.dims })),
    renamed.map(({ name, expr }) => ({ name, dtype: expr.dtype, dims: expr.dims })),
  );
  return { bytes, inputs: kernel.inputs.map((i) => i.name), outputs: renamed.map((o) => o.name) };
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
