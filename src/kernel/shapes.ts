import { type Attrs, type Dim, type Expr, sumDims } from "./kernel.js";
import type { OpName } from "./ops.js";
import type { QuantisedMatrix } from "./quantise.js";

/** @param op the op's own name, for errors */
type ShapeRule = (inputs: readonly Expr[], attrs: Attrs, op: OpName) => readonly Dim[];

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
const elementwise: ShapeRule = ([a, b], _, op) => broadcast(op, a.dims, b.dims);
const alike: ShapeRule = ([a, b], _, op) => {
  if (show(a.dims) !== show(b.dims)) fail(op, `operands ${show(a.dims)} and ${show(b.dims)} differ`);
  return a.dims;
};

/** [...batches, rows, columns] of a product with optional transposes of the last two axes. */
function productDims(op: string, a: Expr, b: Expr, attrs: Attrs): readonly Dim[] {
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
  return [...batch, m, n];
}

function linearDims(
  op: string,
  { x, w, b }: { readonly x: Expr; readonly w: readonly Dim[]; readonly b?: Expr | undefined },
): readonly Dim[] {
  if (x.dims.length !== 2 || w.length !== 2 || x.dims[1] !== w[1])
    fail(op, `input ${show(x.dims)} does not fit weight ${show(w)} (wanted [rows, in] and [out, in])`);
  if (b !== undefined && show(b.dims) !== show([w[0]]))
    fail(op, `bias ${show(b.dims)} does not fit weight ${show(w)}`);
  return [x.dims[0], w[0]];
}

const norm: ShapeRule = ([x, ...parameters], _, op) => {
  for (const p of parameters)
    if (show(p.dims) !== show(x.dims.slice(-1)))
      fail(op, `parameter ${show(p.dims)} does not fit ${show(x.dims)}`);
  return x.dims;
};
const normGrad: ShapeRule = ([x, w, dy], attrs, op) => {
  norm([x, w], attrs, op);
  return alike([x, dy], attrs, op);
};
const normScaleGrad: ShapeRule = (inputs, attrs, op) => alike(inputs, attrs, op).slice(-1);

function reduced(inputs: readonly Expr[], attrs: Attrs): readonly Dim[] {
  const axes = new Set(attrs.axes as readonly number[]);
  const dims = inputs[0].dims.map((dim, axis) => (axes.has(axis) ? 1 : dim));
  return attrs.keepDims ? dims : dims.filter((_, axis) => !axes.has(axis));
}

/** dims of the result from the operands' dims; throws ShapeError naming the op and both shapes. */
export const SHAPE_RULES: Readonly<Record<OpName, ShapeRule>> = {
  input: (_, attrs) => attrs.dims as readonly Dim[],
  constant: (_, attrs) => attrs.dims as readonly Dim[],
  add: elementwise,
  sub: elementwise,
  mul: elementwise,
  div: elementwise,
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
  geluGrad: alike,
  silu: same,
  siluGrad: alike,
  clamp: same,
  clampGrad: alike,
  matmul: ([a, b], attrs, op) => productDims(op, a, b, attrs),
  linear: ([x, w, b], _, op) => linearDims(op, { x, w: w.dims, b }),
  quantisedLinear: ([x, b], { weight }, op) => linearDims(op, { x, w: (weight as QuantisedMatrix).dims, b }),
  gemmAccumulate([c, a, b], attrs, op) {
    const product = productDims(op, a, b, attrs);
    if (show(c.dims) !== show(product))
      fail(op, `addend ${show(c.dims)} does not fit product ${show(product)}`);
    return c.dims;
  },
  transpose([x], attrs, op) {
    const perm = attrs.perm as readonly number[];
    if ([...perm].sort((a, b) => a - b).some((axis, i) => axis !== i) || perm.length !== x.dims.length)
      fail(op, `[${perm.join(", ")}] does not permute the axes of ${show(x.dims)}`);
    return perm.map((axis) => x.dims[axis]);
  },
  reshape([x, ...sizes], attrs, op) {
    const dims = attrs.dims as readonly Dim[];
    const known = new Set(sizes.flatMap((size) => size.dims));
    const isOpen = (d: Dim, axis: number) => typeof d === "string" && d !== x.dims[axis] && !known.has(d);
    if (dims.filter(isOpen).length > 1)
      fail(op, `${show(dims)} has more than one symbolic size that nothing tells`);
    const symbolic = [...x.dims, ...dims].some((d) => typeof d === "string");
    const product = (list: readonly Dim[]) => list.reduce<number>((p, d) => p * Number(d), 1);
    if (!symbolic && product(x.dims) !== product(dims))
      fail(op, `${show(x.dims)} does not hold as many elements as ${show(dims)}`);
    return dims;
  },
  slice([x], attrs, op) {
    const [axis, start, end] = [attrs.axis as number, attrs.start as number, attrs.end as number];
    const size = x.dims[axis];
    if (typeof size !== "number" || start < 0 || end > size || start >= end)
      fail(op, `[${start}, ${end}) is not within axis ${axis} of ${show(x.dims)}`);
    return x.dims.map((dim, i) => (i === axis ? end - start : dim));
  },
  pad([x], attrs) {
    const axis = attrs.axis as number;
    return x.dims.map((dim, i) =>
      i === axis ? Number(dim) + (attrs.before as number) + (attrs.after as number) : dim,
    );
  },
  sumPrefixes(inputs, attrs, op) {
    const [size, axis] = [attrs.size as number, inputs[0].dims.length - 2];
    const rest = (x: Expr) => show(x.dims.filter((_, i) => i !== axis));
    for (const x of inputs)
      if (axis < 0 || rest(x) !== rest(inputs[0]) || !((x.dims[axis] as number) <= size))
        fail(op, `${show(x.dims)} is no part of ${size} along axis ${axis}`);
    return inputs[0].dims.map((dim, i) => (i === axis ? size : dim));
  },
  concat(inputs, attrs, op) {
    const axis = attrs.axis as number;
    const total = inputs.map((x) => x.dims[axis]).reduce(sumDims);
    const rest = (x: Expr) => show(x.dims.filter((_, i) => i !== axis));
    for (const x of inputs)
      if (rest(x) !== rest(inputs[0]))
        fail(op, `${show(inputs[0].dims)} and ${show(x.dims)} differ beside axis ${axis}`);
    return inputs[0].dims.map((dim, i) => (i === axis ? total : dim));
  },
  expand([x], attrs, op) {
    const dims = attrs.dims as readonly Dim[];
    if (show(broadcast(op, x.dims, dims)) !== show(dims))
      fail(op, `${show(x.dims)} does not expand to ${show(dims)}`);
    return dims;
  },
  reduceSum: reduced,
  reduceMean: reduced,
  rotary([{ dims, dtype }], attrs, op) {
    if (dtype !== "i32") fail(op, `positions are ${dtype} ${show(dims)}, wanted i32`);
    return [...dims, (attrs.frequencies as readonly number[]).length];
  },
  causalBias: (inputs, _, op) => inputs.map((positions) => positionAxis(op, positions)),
  documentBias([{ dims, dtype }], attrs, op) {
    if (dims.length !== 2 || dtype !== "i32")
      fail(op, `starts are ${dtype} ${show(dims)}, wanted i32 [B, R]`);
    return [dims[0], 1, dims[1], (attrs.end as number) - (attrs.first as number)];
  },
  gatherRows([x, rows], _, op) {
    if (x.dims.length !== 2) fail(op, `rows of ${show(x.dims)}, wanted of [rows, width]`);
    return [positionAxis(op, rows), x.dims[1]];
  },
  cachedAttention([q, key, value, keys, values, last, total], attrs, op) {
    const [B, S] = q.dims;
    const [, G, , w] = keys.dims as [Dim, number, Dim, number];
    const wanted: [Expr, readonly Dim[]][] = [
      [q, [B, S, (attrs.heads as number) * w]],
      [key, [B, S, G * w]],
      [value, [B, S, G * w]],
      [values, keys.dims],
      [last, [B]],
      [total, [1]],
    ];
    for (const [x, dims] of wanted)
      if (show(x.dims) !== show(dims))
        fail(op, `${show(x.dims)} does not fit the cache ${show(keys.dims)}, wanted ${show(dims)}`);
    if (keys.dims[0] !== B || w % 8 !== 0 || (attrs.heads as number) % G !== 0)
      fail(op, `the cache is ${show(keys.dims)} for ${attrs.heads as number} heads of ${show(q.dims)}`);
    return q.dims;
  },
  cacheAfter: ([, before]) => before.dims,
  softmax: same,
  softmaxGrad: alike,
  layerNorm: norm,
  layerNormGrad: normGrad,
  layerNormScaleGrad: normScaleGrad,
  rmsNorm: norm,
  rmsNormGrad: normGrad,
  rmsNormScaleGrad: normScaleGrad,
  crossEntropy: ([logits, labels], _, op) => {
    if (logits.dims.length !== 2 || show(labels.dims) !== show([logits.dims[0]]))
      fail(op, `labels ${show(labels.dims)} do not fit logits ${show(logits.dims)}`);
    return [logits.dims[0]];
  },
  crossEntropyGrad: same,
  softCrossEntropy: (inputs, attrs, op) => alike(inputs, attrs, op).slice(0, 1),
};

function positionAxis(op: string, { dims, dtype }: Expr): Dim {
  if (dims.length !== 1 || dtype !== "i32") fail(op, `positions are ${dtype} ${show(dims)}, wanted i32 [S]`);
  return dims[0];
}
