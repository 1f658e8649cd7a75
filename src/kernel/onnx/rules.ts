/** How each op is said in ONNX (opset 21, plus FusedMatMul of com.microsoft). */
import type { Dim, Expr } from "../kernel.js";
import type { OpName } from "../ops.js";
import { type QuantisedMatrix, isPaired } from "../quantise.js";
import { ELEMENT_TYPE, type OnnxGraph } from "./graph.js";
import { fromPairs, inPairs } from "./row-pairs.js";

/** Adds nodes for one expression whose operands have the names given; returns the result's name. */
export type OnnxRule = (g: OnnxGraph, e: Expr, inputs: readonly string[]) => string;

const plain =
  (op: string): OnnxRule =>
  (g, _, inputs) =>
    g.node(op, inputs);

const flag = (value: unknown): number => (value ? 1 : 0);

/** A symbol becomes −1: ONNX infers it. */
const shapeInput = (g: OnnxGraph, dims: readonly Dim[]): string =>
  g.ints(dims.map((dim) => (typeof dim === "number" ? dim : -1)));

/** Several symbols: those x has in the same place are copied (0), one is inferred, the rest come from operands that have them. */
function reshapeInput(
  g: OnnxGraph,
  { attrs, inputs: [x, ...sources] }: Expr,
  names: readonly string[],
): string {
  const dims = attrs.dims as readonly Dim[];
  if (dims.filter((dim) => typeof dim === "string").length <= 1) return shapeInput(g, dims);
  const isKnown = (dim: Dim): boolean => sources.some((source) => source.dims.includes(dim));
  const open = dims.filter((dim, axis) => typeof dim === "string" && x.dims[axis] !== dim);
  const inferred = dims.indexOf(open.find((dim) => !isKnown(dim)) ?? open[0]);
  const parts = dims.map((dim, axis) => {
    if (typeof dim === "number") return g.ints([dim]);
    if (axis === inferred || x.dims[axis] === dim) return g.ints([axis === inferred ? -1 : 0]);
    const source = sources.findIndex((s) => s.dims.includes(dim));
    const at = sources[source].dims.indexOf(dim);
    return g.node("Shape", [names[source]], { start: at, end: at + 1 });
  });
  return g.node("Concat", parts, { axis: 0 });
}

const reduction =
  (op: string): OnnxRule =>
  (g, { attrs }, [x]) =>
    g.node(op, [x, g.ints(attrs.axes as readonly number[])], { keepdims: flag(attrs.keepDims) });

const lastSum = (g: OnnxGraph, x: string): string => g.node("ReduceSum", [x, g.ints([-1])], { keepdims: 1 });
const lastMean = (g: OnnxGraph, x: string): string =>
  g.node("ReduceMean", [x, g.ints([-1])], { keepdims: 1 });

export const ONNX_RULES: Readonly<Record<OpName, OnnxRule>> = {
  input: (_, e) => e.attrs.name as string,
  constant: (g, e) => {
    const dims = e.attrs.dims as readonly number[];
    const values = e.attrs.values as Float32Array;
    return dims.length === 0 ? g.scalar(values[0]) : g.f32(values, dims);
  },
  add: plain("Add"),
  sub: plain("Sub"),
  mul: plain("Mul"),
  div: plain("Div"),
  neg: plain("Neg"),
  exp: plain("Exp"),
  log: plain("Log"),
  sqrt: plain("Sqrt"),
  reciprocal: plain("Reciprocal"),
  tanh: plain("Tanh"),
  sigmoid: plain("Sigmoid"),
  erf: plain("Erf"),
  softplus: plain("Softplus"),
  gelu: plain("Gelu"),
  // With z = x/√2: ½(erf z + 1) + x·exp(−z²)/√(2π)
  geluGrad: (g, _, [x, dy]) => {
    const z = g.node("Mul", [x, g.scalar(Math.SQRT1_2)]);
    const cdf = g.node("Mul", [g.node("Add", [g.node("Erf", [z]), g.scalar(1)]), g.scalar(0.5)]);
    const density = g.node("Exp", [g.node("Neg", [g.node("Mul", [z, z])])]);
    const slope = g.node("Mul", [g.node("Mul", [x, density]), g.scalar(1 / Math.sqrt(2 * Math.PI))]);
    return g.node("Mul", [dy, g.node("Add", [cdf, slope])]);
  },
  silu: (g, _, [x]) => g.node("Mul", [x, g.node("Sigmoid", [x])]),
  // σ·(1 + x·(1 − σ)) = σ + y·(1 − σ) with y = x·σ
  siluGrad: (g, _, [x, dy]) => {
    const s = g.node("Sigmoid", [x]);
    const rest = g.node("Mul", [g.node("Mul", [x, s]), g.node("Sub", [g.scalar(1), s])]);
    return g.node("Mul", [dy, g.node("Add", [s, rest])]);
  },
  // Not "Clip", which may give a number for what is none.
  clamp: (g, { attrs }, [x]) => {
    const limit = attrs.limit as number;
    const below = g.node("Where", [g.node("Greater", [x, g.scalar(limit)]), g.scalar(limit), x]);
    return g.node("Where", [g.node("Less", [x, g.scalar(-limit)]), g.scalar(-limit), below]);
  },
  clampGrad: (g, { attrs }, [x, dy]) => {
    const isOutside = g.node("Greater", [g.node("Abs", [x]), g.scalar(attrs.limit as number)]);
    return g.node("Where", [isOutside, g.scalar(0), dy]);
  },
  matmul: (g, { attrs, dims }, inputs) => {
    const [transA, transB, alpha] = [flag(attrs.transA), flag(attrs.transB), attrs.alpha as number];
    if (dims.length === 2) return g.node("Gemm", inputs, { transA, transB, alpha: { float: alpha } });
    if (transA + transB === 0 && alpha === 1) return g.node("MatMul", inputs);
    return g.node("FusedMatMul", inputs, { transA, transB, alpha: { float: alpha } }, "com.microsoft");
  },
  linear: (g, _, inputs) => g.node("Gemm", inputs, { transB: 1 }),
  // Accuracy level 4: a product of 8-bit integers, each block of a row with a scale of its own.
  quantisedLinear: (g, { attrs, inputs: [rows] }, [x, ...bias]) => {
    const matrix = attrs.weight as QuantisedMatrix;
    const { bits, block, dims, packed, scales } = matrix;
    const [N, K] = dims;
    const blocks = Math.ceil(K / block);
    const weight = g.packed(packed, [N, blocks, (block * bits) / 8]);
    const product = (of: string): string =>
      g.node(
        "MatMulNBits",
        [of, weight, g.packed(scales, [N, blocks], true), ...(bias.length === 0 ? [] : ["", "", ...bias])],
        { K, N, bits, block_size: block, accuracy_level: 4 },
        "com.microsoft",
      );
    const count = rows.dims[0];
    if (!isPaired(matrix) || (typeof count === "number" && count % 2 === 0)) return product(x);
    return fromPairs(g, product(inPairs(g, x, count)), { count, of: x });
  },
  gemmAccumulate: (g, { attrs }, [c, a, b]) =>
    g.node("Gemm", [a, b, c], {
      transA: flag(attrs.transA),
      transB: flag(attrs.transB),
      alpha: { float: attrs.alpha as number },
      beta: { float: 1 },
    }),
  transpose: (g, { attrs }, [x]) => g.node("Transpose", [x], { perm: attrs.perm as readonly number[] }),
  reshape: (g, e, [x, ...sizes]) => g.node("Reshape", [x, reshapeInput(g, e, sizes)]),
  slice: (g, { attrs }, [x]) =>
    g.node("Slice", [
      x,
      g.ints([attrs.start as number]),
      g.ints([attrs.end as number]),
      g.ints([attrs.axis as number]),
    ]),
  // For all axes: with the input that names some, onnxruntime 1.30 moves transposes across to the wrong places.
  pad: (g, { attrs, dims }, [x]) => {
    const only = (size: number): number[] => dims.map((_, axis) => (axis === attrs.axis ? size : 0));
    const sizes = [...only(attrs.before as number), ...only(attrs.after as number)];
    return g.node("Pad", [x, g.ints(sizes), g.scalar(0)]);
  },
  sumPrefixes: (g, { inputs: sources, attrs }, inputs) => {
    const axis = sources[0].dims.length - 2;
    return inputs
      .map((x, i) => {
        const after = (attrs.size as number) - (sources[i].dims[axis] as number);
        return after === 0 ? x : g.node("Pad", [x, g.ints([0, after]), g.scalar(0), g.ints([axis])]);
      })
      .reduce((a, b) => g.node("Add", [a, b]));
  },
  concat: (g, { attrs }, inputs) => g.node("Concat", inputs, { axis: attrs.axis as number }),
  // Expand broadcasts both ways, so a symbolic size becomes 1: the input already has it.
  expand: (g, { attrs, inputs: [source] }, [x]) => {
    const dims = attrs.dims as readonly Dim[];
    if (dims.length !== source.dims.length && dims.some((d) => typeof d === "string"))
      throw new Error("expand cannot add axes beside a symbolic size");
    return g.node("Expand", [x, g.ints(dims.map((dim) => (typeof dim === "number" ? dim : 1)))]);
  },
  reduceSum: reduction("ReduceSum"),
  reduceMean: reduction("ReduceMean"),
  // Angles in double precision: a position times a frequency has more digits than f32.
  rotary: (g, { attrs }, [positions]) => {
    const frequencies = Float64Array.from(attrs.frequencies as readonly number[]);
    const column = g.node("Unsqueeze", [g.node("Cast", [positions], { to: ELEMENT_TYPE.f64 }), g.ints([-1])]);
    const angles = g.node("Mul", [column, g.f64(frequencies)]);
    return g.node("Cast", [g.node(attrs.wave === "cos" ? "Cos" : "Sin", [angles])], { to: ELEMENT_TYPE.f32 });
  },
  causalBias: (g, { attrs }, [queries, keys]) => {
    const column = g.node("Unsqueeze", [queries, g.ints([1])]);
    let hidden = g.node("Greater", [keys, column]);
    if (attrs.window !== undefined) {
      const last = g.node("Sub", [column, g.i32(attrs.window as number)]);
      hidden = g.node("Or", [hidden, g.node("LessOrEqual", [keys, last])]);
    }
    return g.node("Where", [hidden, g.scalar(-1e9), g.scalar(0)]);
  },
  // 2³⁰·(key − start), at most 0: a power of two, so the products are exact in f32.
  documentBias: (g, { attrs }, [starts]) => {
    const [first, end] = [attrs.first as number, attrs.end as number];
    const keys = Float32Array.from({ length: end - first }, (_, i) => (first + i) * 2 ** 30);
    const scaled = g.node("Mul", [g.node("Cast", [starts], { to: ELEMENT_TYPE.f32 }), g.scalar(2 ** 30)]);
    const column = g.node("Unsqueeze", [scaled, g.ints([1, 3])]);
    return g.node("Min", [g.node("Sub", [g.f32(keys, [keys.length]), column]), g.scalar(0)]);
  },
  gatherRows: (g, _, inputs) => g.node("Gather", inputs, { axis: 0 }),
  cachedAttention: (g, { attrs, inputs: [, , , keys] }, inputs) =>
    g.node(
      "GroupQueryAttention",
      inputs,
      {
        num_heads: attrs.heads as number,
        kv_num_heads: keys.dims[1] as number,
        scale: { float: attrs.scale as number },
        local_window_size: (attrs.window as number | undefined) ?? -1,
      },
      "com.microsoft",
      ["keys", "values"],
    ),
  cacheAfter: (g, { attrs }, [attention]) => g.further(attention, attrs.of as string),
  softmax: (g, _, [x]) => g.node("Softmax", [x], { axis: -1 }),
  softmaxGrad: (g, _, [p, dp]) => {
    const delta = lastSum(g, g.node("Mul", [p, dp]));
    return g.node("Mul", [p, g.node("Sub", [dp, delta])]);
  },
  layerNorm: (g, { attrs }, inputs) =>
    g.node("LayerNormalization", inputs, { axis: -1, epsilon: { float: attrs.eps as number } }),
  layerNormGrad: (g, { attrs }, [x, w, dy]) => {
    const { normed, r } = normalised(g, centred(g, x), attrs.eps as number);
    return normGradient(g, { normed, r, g: centred(g, g.node("Mul", [dy, w])) });
  },
  layerNormScaleGrad: (g, { attrs, inputs }, [x, dy]) =>
    scaleGradient(g, normalised(g, centred(g, x), attrs.eps as number).normed, dy, inputs[0].dims.length),
  rmsNormGrad: (g, { attrs }, [x, w, dy]) =>
    normGradient(g, { ...normalised(g, x, attrs.eps as number), g: g.node("Mul", [dy, w]) }),
  rmsNormScaleGrad: (g, { attrs, inputs }, [x, dy]) =>
    scaleGradient(g, normalised(g, x, attrs.eps as number).normed, dy, inputs[0].dims.length),
  rmsNorm: (g, { attrs }, [x, w]) => {
    const variance = g.node("Add", [lastMean(g, g.node("Mul", [x, x])), g.scalar(attrs.eps as number)]);
    return g.node("Mul", [g.node("Div", [x, g.node("Sqrt", [variance])]), w]);
  },
  crossEntropy: (g, _, [logits, labels]) => {
    const column = g.node("Unsqueeze", [labels, g.ints([1])]);
    const picked = g.node("GatherElements", [g.node("LogSoftmax", [logits], { axis: -1 }), column], {
      axis: 1,
    });
    return g.node("Neg", [g.node("Squeeze", [picked, g.ints([1])])]);
  },
  crossEntropyGrad: (g, _, [logits, labels, dLoss]) => {
    const column = g.node("Unsqueeze", [labels, g.ints([1])]);
    const scale = g.node("Unsqueeze", [dLoss, g.ints([1])]);
    const scaled = g.node("Mul", [g.node("Softmax", [logits], { axis: -1 }), scale]);
    return g.node("ScatterElements", [scaled, column, g.node("Neg", [scale])], { axis: 1, reduction: "add" });
  },
  softCrossEntropy: (g, _, [logits, targets]) => {
    const products = g.node("Mul", [g.node("LogSoftmax", [logits], { axis: -1 }), targets]);
    return g.node("Neg", [g.node("ReduceSum", [products, g.ints([1])], { keepdims: 0 })]);
  },
};

/**
 * One node where ONNX_RULES have several: quicker, and other bits in the last place, which runs under way must not get. For
 * graphs that only infer. (onnxruntime finds `silu` by itself.)
 */
export const INFERENCE_RULES: Readonly<Partial<Record<OpName, OnnxRule>>> = {
  rmsNorm: (g, { attrs }, inputs) =>
    g.node("SimplifiedLayerNormalization", inputs, { axis: -1, epsilon: { float: attrs.eps as number } }),
};

function centred(g: OnnxGraph, x: string): string {
  return g.node("Sub", [x, lastMean(g, x)]);
}

/** x̂ = x·r with r = 1/√(mean(x²) + eps) */
function normalised(g: OnnxGraph, x: string, eps: number): { normed: string; r: string } {
  const variance = g.node("Add", [lastMean(g, g.node("Mul", [x, x])), g.scalar(eps)]);
  const r = g.node("Reciprocal", [g.node("Sqrt", [variance])]);
  return { normed: g.node("Mul", [x, r]), r };
}

/** r·(g − x̂·mean(g·x̂)); a centred g has the same mean(g·x̂) as the original, since x̂ is centred. */
function normGradient(graph: OnnxGraph, { normed, r, g }: { normed: string; r: string; g: string }): string {
  const along = graph.node("Mul", [normed, lastMean(graph, graph.node("Mul", [g, normed]))]);
  return graph.node("Mul", [r, graph.node("Sub", [g, along])]);
}

function scaleGradient(g: OnnxGraph, normed: string, dy: string, numAxes: number): string {
  const rows = Array.from({ length: numAxes - 1 }, (_, axis) => axis);
  return g.node("ReduceSum", [g.node("Mul", [dy, normed]), g.ints(rows)], { keepdims: 0 });
}
