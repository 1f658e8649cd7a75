import { type Attrs, type Dim, type Expr, sumDims } from "./kernel.js";
import type { OpName } from "./ops.js";

type ShapeRule = (inputs: readonly Expr[], attrs: Attrs) => readonly Dim[];

export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

const show = (dims: readonly Dim[]) => `[${dims.join(", ")}]`;

function fail(op: string, text: string): never {
  throw new ShapeError(`${op}: ${text}`);
}

/** NumPy broadcasting; a symbol only fits itself or 1. */
export function broadcast(op: string, a: readonly Dim[], b: readonly Dim[]): readonly Dim[] {
  const length = Math.max(a.length, b.length);
  return Array.from({ length }, (_, i) => {
    const da = a[i - (length - a.length)] ?? 1;
    const db = b[i - (length - b.length)] ?? 1;
    if (da === db || db === 1) return da;
    if (da === 1) return db;
    return fail(op, `operands ${show(a)} and ${show(b)} do not broadcast`);
  });
}

const same: ShapeRule = ([x]) => x.dims;
const elementwise =
  (op: string): ShapeRule =>
  ([a, b]) =>
    broadcast(op, a.dims, b.dims);
const sameAs =
  (op: string): ShapeRule =>
  ([a, b]) => {
    if (show(a.dims) !== show(b.dims)) fail(op, `operands ${show(a.dims)} and ${show(b.dims)} differ`);
    return a.dims;
  };

/** Rows, inner and columns of a product with optional transposes of the last two axes. */
export function matmulDims(
  op: string,
  a: Expr,
  b: Expr,
  attrs: Attrs,
): { batch: readonly Dim[]; m: Dim; k: Dim; n: Dim } {
  if (a.dims.length !== b.dims.length || a.dims.length < 2)
    fail(op, `operands ${show(a.dims)} and ${show(b.dims)} must have the same number of axes, at least 2`);
  const [a0, a1] = a.dims.slice(-2);
  const [b0, b1] = b.dims.slice(-2);
  const [m, ka] = attrs.transA ? [a1, a0] : [a0, a1];
  const [kb, n] = attrs.transB ? [b1, b0] : [b0, b1];
  if (ka !== kb) fail(op, `inner sizes of ${show(a.dims)} and ${show(b.dims)} differ: ${ka} and ${kb}`);
  const batch = a.dims.slice(0, -2);
  if (show(batch) !== show(b.dims.slice(0, -2)))
    fail(op, `batches of ${show(a.dims)} and ${show(b.dims)} differ`);
  return { batch, m, k: ka, n };
}

function reduced(inputs: readonly Expr[], attrs: Attrs): readonly Dim[] {
  const axes = new Set(attrs.axes as readonly number[]);
  const dims = inputs[0].dims.map((dim, axis) => (axes.has(axis) ? 1 : dim));
  return attrs.keepDims ? dims : dims.filter((_, axis) => !axes.has(axis));
}

/** dims of the result from the operands' dims; throws ShapeError naming the op and both shapes. */
export const SHAPE_RULES: Readonly<Record<OpName, ShapeRule>> = {
  input: (_, attrs) => attrs.dims as readonly Dim[],
  constant: (_, attrs) => attrs.dims as readonly Dim[],
  add: elementwise("add"),
  sub: elementwise("sub"),
  mul: elementwise("mul"),
  div: elementwise("div"),
  neg: same,
  exp: same,
  log: same,
  sqrt: same,
  reciprocal: same,
  tanh: same,
  sigmoid: same,
  erf: same,
  softplus: same,
  gelu: same,
  geluGrad: sameAs("geluGrad"),
  silu: same,
  siluGrad: sameAs("siluGrad"),
  matmul([a, b], attrs) {
    const { batch, m, n } = matmulDims("matmul", a, b, attrs);
    return [...batch, m, n];
  },
  linear([x, w, b]) {
    if (x.dims.length !== 2 || w.dims.length !== 2 || x.dims[1] !== w.dims[1])
      fail(
        "linear",
        `input ${show(x.dims)} does not fit weight ${show(w.dims)} (wanted [rows, in] and [out, in])`,
      );
    if (b !== undefined && show(b.dims) !== show([w.dims[0]]))
      fail("linear", `bias ${show(b.dims)} does not fit weight ${show(w.dims)}`);
    return [x.dims[0], w.dims[0]];
  },
  gemmAccumulate([c, a, b], attrs) {
    const { m, n } = matmulDims("gemmAccumulate", a, b, attrs);
    if (show(c.dims) !== show([m, n]))
      fail("gemmAccumulate", `addend ${show(c.dims)} does not fit product ${show([m, n])}`);
    return c.dims;
  },
  transpose([x], attrs) {
    const perm = attrs.perm as readonly number[];
    if ([...perm].sort((a, b) => a - b).some((axis, i) => axis !== i) || perm.length !== x.dims.length)
      fail("transpose", `[${perm.join(", ")}] does not permute the axes of ${show(x.dims)}`);
    return perm.map((axis) => x.dims[axis]);
  },
  reshape([x, ...sizes], attrs) {
    const dims = attrs.dims as readonly Dim[];
    const known = new Set(sizes.flatMap((size) => size.dims));
    const isOpen = (d: Dim, axis: number) => typeof d === "string" && d !== x.dims[axis] && !known.has(d);
    if (dims.filter(isOpen).length > 1)
      fail("reshape", `${show(dims)} has more than one symbolic size that nothing tells`);
    const symbolic = [...x.dims, ...dims].some((d) => typeof d === "string");
    const product = (list: readonly Dim[]) => list.reduce<number>((p, d) => p * Number(d), 1);
    if (!symbolic && product(x.dims) !== product(dims))
      fail("reshape", `${show(x.dims)} does not hold as many elements as ${show(dims)}`);
    return dims;
  },
  slice([x], attrs) {
    const [axis, start, end] = [attrs.axis as number, attrs.start as number, attrs.end as number];
    const size = x.dims[axis];
    if (typeof size !== "number" || start < 0 || end > size || start >= end)
      fail("slice", `[${start}, ${end}) is not within axis ${axis} of ${show(x.dims)}`);
    return x.dims.map((dim, i) => (i === axis ? end - start : dim));
  },
  pad([x], attrs) {
    const axis = attrs.axis as number;
    return x.dims.map((dim, i) =>
      i === axis ? Number(dim) + (attrs.before as number) + (attrs.after as number) : dim,
    );
  },
  sumPrefixes(inputs, attrs) {
    const [size, axis] = [attrs.size as number, inputs[0].dims.length - 2];
    const rest = (x: Expr) => show(x.dims.filter((_, i) => i !== axis));
    for (const x of inputs)
      if (axis < 0 || rest(x) !== rest(inputs[0]) || !((x.dims[axis] as number) <= size))
        fail("sumPrefixes", `${show(x.dims)} is no part of ${size} along axis ${axis}`);
    return inputs[0].dims.map((dim, i) => (i === axis ? size : dim));
  },
  concat(inputs, attrs) {
    const axis = attrs.axis as number;
    const total = inputs.map((x) => x.dims[axis]).reduce(sumDims);
    const rest = (x: Expr) => show(x.dims.filter((_, i) => i !== axis));
    for (const x of inputs)
      if (rest(x) !== rest(inputs[0]))
        fail("concat", `${show(inputs[0].dims)} and ${show(x.dims)} differ beside axis ${axis}`);
    return inputs[0].dims.map((dim, i) => (i === axis ? total : dim));
  },
  expand([x], attrs) {
    const dims = attrs.dims as readonly Dim[];
    if (show(broadcast("expand", x.dims, dims)) !== show(dims))
      fail("expand", `${show(x.dims)} does not expand to ${show(dims)}`);
    return dims;
  },
  reduceSum: reduced,
  reduceMean: reduced,
  rotary: ([positions], attrs) => [positionAxis("rotary", positions), attrs.width as number],
  causalBias: (inputs) => inputs.map((positions) => positionAxis("causalBias", positions)),
  softmax: same,
  softmaxGrad: sameAs("softmaxGrad"),
  layerNorm: normRule("layerNorm"),
  layerNormGrad: normGradRule("layerNormGrad"),
  layerNormScaleGrad: normScaleGradRule("layerNormScaleGrad"),
  rmsNorm: normRule("rmsNorm"),
  rmsNormGrad: normGradRule("rmsNormGrad"),
  rmsNormScaleGrad: normScaleGradRule("rmsNormScaleGrad"),
  crossEntropy: ([logits, labels]) => {
    if (logits.dims.length !== 2 || show(labels.dims) !== show([logits.dims[0]]))
      fail("crossEntropy", `labels ${show(labels.dims)} do not fit logits ${show(logits.dims)}`);
    return [logits.dims[0]];
  },
  crossEntropyGrad: same,
};

function positionAxis(op: string, { dims, dtype }: Expr): Dim {
  if (dims.length !== 1 || dtype !== "i32") fail(op, `positions are ${dtype} ${show(dims)}, wanted i32 [S]`);
  return dims[0];
}

function normRule(op: string): ShapeRule {
  return ([x, ...parameters]) => {
    for (const p of parameters)
      if (show(p.dims) !== show(x.dims.slice(-1)))
        fail(op, `parameter ${show(p.dims)} does not fit ${show(x.dims)}`);
    return x.dims;
  };
}

function normGradRule(op: string): ShapeRule {
  return ([x, w, dy]) => {
    if (show(w.dims) !== show(x.dims.slice(-1)))
      fail(op, `parameter ${show(w.dims)} does not fit ${show(x.dims)}`);
    return sameAs(op)([x, dy], {});
  };
}

function normScaleGradRule(op: string): ShapeRule {
  return ([x, dy]) => sameAs(op)([x, dy], {}).slice(-1);
}
