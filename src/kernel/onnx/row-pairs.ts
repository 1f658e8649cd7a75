/**
 * Rows by two. onnxruntime multiplies rows with quantised weights by two, a last odd one by itself, and in large blocks the two sum in another
 * order: of an odd number of rows there is one more, so that each is one of a pair whatever the others are.
 */
import type { Dim, Expr } from "../kernel.js";
import type { OpName } from "../ops.js";
import type { OnnxGraph } from "./graph.js";

/** Ops that make of each row the same whether there are more. */
const ROW_WISE: ReadonlySet<OpName> = new Set<OpName>([
  "add",
  "sub",
  "mul",
  "div",
  "neg",
  "tanh",
  "sigmoid",
  "erf",
  "softplus",
  "gelu",
  "silu",
  "clamp",
  "layerNorm",
  "rmsNorm",
]);

const key = (x: string): string => `pairs of ${x}`;

/** An even number of rows of which x is the first. */
export function inPairs(g: OnnxGraph, x: string, rows: Dim): string {
  return g.shared(key(x), () => {
    const sizes = g.shared(`to pairs of ${rows}`, () => {
      const odd = g.node("Mod", [countOf(g, x, rows), g.ints([2])]);
      return g.node("Concat", [g.ints([0, 0]), odd, g.ints([0])], { axis: 0 });
    });
    return g.node("Pad", [x, sizes, g.scalar(0)]);
  });
}

function countOf(g: OnnxGraph, x: string, rows: Dim): string {
  return g.shared(`number of ${rows}`, () => g.node("Shape", [x], { start: 0, end: 1 }));
}

/** The first rows of pairs. Whoever wants pairs of them gets these. */
export function fromPairs(
  g: OnnxGraph,
  pairs: string,
  rows: { readonly count: Dim; readonly of: string },
): string {
  const result = g.node("Slice", [pairs, g.ints([0]), countOf(g, rows.of, rows.count), g.ints([0])]);
  g.shared(key(result), () => pairs);
  return result;
}

/** What a rule makes of operands, by way of their pairs where all of them that are rows have some. */
export function overPairs(
  g: OnnxGraph,
  expr: Expr,
  operands: readonly string[],
  rule: (operands: readonly string[]) => string,
): string {
  const isWeight = ({ op, dims }: Expr): boolean => op === "constant" && dims.length < 2;
  const pairs = operands.map((name, i) => (isWeight(expr.inputs[i]) ? name : g.known(key(name))));
  const rows = pairs.findIndex((name, i) => name !== operands[i]);
  if (!ROW_WISE.has(expr.op) || rows === -1 || pairs.includes(undefined)) return rule(operands);
  return fromPairs(g, rule(pairs as string[]), { count: expr.dims[0], of: operands[rows] });
}
