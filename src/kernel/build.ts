/** Functions that build tensor expressions. Every one checks shapes at once and throws ShapeError. */
import type { DType } from "../core/tensor.js";
import type { Attrs, Dim, Expr, Kernel, KernelInput, KernelOutput, Role } from "./kernel.js";
import type { OpName } from "./ops.js";
import { apply } from "./apply.js";

export { type CachedAttention, cachedAttention } from "./cached-attention.js";
import type { QuantisedMatrix } from "./quantise.js";

/** A value given when the kernel runs; receives a gradient `d_<name>` if it is f32. */
export function input(name: string, dims: readonly Dim[], dtype: DType = "f32"): Expr {
  return given(name, dims, dtype === "f32" ? "input" : "constant", dtype);
}

/** A value given when the kernel runs that has no gradient, such as noise. */
export function constantInput(name: string, dims: readonly Dim[]): Expr {
  return given(name, dims, "constant");
}

/** A weight; its gradient is accumulated into `g_<name>`. */
export function parameter(name: string, dims: readonly number[]): Expr {
  return given(name, dims, "parameter");
}

/** A weight that is never quantised: small, and what hangs on its product is a choice. */
export function exactParameter(name: string, dims: readonly number[]): Expr {
  return apply("input", [], { name, role: "parameter", dims, isExact: true });
}

function given(name: string, dims: readonly Dim[], role: Role, dtype: DType = "f32"): Expr {
  return apply("input", [], { name, role, dims }, dtype);
}

export function constant(values: Float32Array, dims: readonly number[]): Expr {
  return apply("constant", [], { values, dims });
}

export function scalar(value: number): Expr {
  return constant(Float32Array.of(value), []);
}

const unary =
  (op: OpName) =>
  (x: Expr): Expr =>
    apply(op, [x]);
const binary =
  (op: OpName) =>
  (a: Expr, b: Expr): Expr =>
    apply(op, [a, b]);

export const add = binary("add");
export const sub = binary("sub");
export const mul = binary("mul");
export const div = binary("div");
export const neg = unary("neg");
export const exp = unary("exp");
export const log = unary("log");
export const sqrt = unary("sqrt");
export const reciprocal = unary("reciprocal");
export const tanh = unary("tanh");
export const sigmoid = unary("sigmoid");
export const erf = unary("erf");
/** log(1 + eˣ) */
export const softplus = unary("softplus");
/** x·Φ(x), exact (erf) form. */
export const gelu = unary("gelu");
/** dy·(Φ(x) + x·φ(x)) */
export const geluGrad = binary("geluGrad");
/** x·σ(x) */
export const silu = unary("silu");
/** dy·σ(x)·(1 + x·(1 − σ(x))) */
export const siluGrad = binary("siluGrad");
/** min(max(x, −limit), limit); not a number stays so. */
export function clamp(x: Expr, limit: number): Expr {
  return apply("clamp", [x], { limit });
}
/** dy where −limit ≤ x ≤ limit, 0 elsewhere. */
export function clampGrad(x: Expr, dy: Expr, limit: number): Expr {
  return apply("clampGrad", [x, dy], { limit });
}
/** Softmax along the last axis. */
export const softmax = unary("softmax");
/** p ⊙ (dp − Σ dp ⊙ p) along the last axis. */
export const softmaxGrad = binary("softmaxGrad");

export interface MatmulOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly alpha?: number;
}

const matmulAttrs = (o: MatmulOptions): Attrs => ({
  transA: o.transA ?? false,
  transB: o.transB ?? false,
  alpha: o.alpha ?? 1,
});

/** alpha · op(a)·op(b) over the last two axes; leading axes agree. */
export function matmul(a: Expr, b: Expr, options: MatmulOptions = {}): Expr {
  return apply("matmul", [a, b], matmulAttrs(options));
}

/** x·wᵀ + b with x [rows, in], w [out, in], b [out]. */
export function linear(x: Expr, w: Expr, b?: Expr): Expr {
  return apply("linear", b === undefined ? [x, w] : [x, w, b]);
}

/** x·wᵀ + b with a quantised w [out, in]; its product reads x in 8 bits, a scale for every 32 neighbours of a row. */
export function quantisedLinear(x: Expr, weight: QuantisedMatrix, b?: Expr): Expr {
  return apply("quantisedLinear", b === undefined ? [x] : [x, b], { weight });
}

/** c + alpha · op(a)·op(b), two-dimensional; the result may overwrite c. */
export function gemmAccumulate(c: Expr, a: Expr, b: Expr, options: MatmulOptions = {}): Expr {
  return apply("gemmAccumulate", [c, a, b], matmulAttrs(options));
}

export function transpose(x: Expr, perm: readonly number[]): Expr {
  return apply("transpose", [x], { perm });
}

/**
 * A symbol in dims that x does not have in the same place is known from `sizes`, expressions that have it among their
 * dims; one may be unknown: its size follows from the number of elements.
 */
export function reshape(x: Expr, dims: readonly Dim[], ...sizes: readonly Expr[]): Expr {
  return apply("reshape", [x, ...sizes], { dims });
}

/** Elements [start, end) of an axis. */
export function slice(x: Expr, axis: number, start: number, end: number): Expr {
  if (start === 0 && end === x.dims[axis]) return x;
  return apply("slice", [x], { axis, start, end }, x.dtype);
}

/** Zeros before and after along an axis. */
export function pad(x: Expr, axis: number, before: number, after: number): Expr {
  return apply("pad", [x], { axis, before, after });
}

/** Σ of arrays that each cover the first part of an axis of `size` elements; rows (all axes but the last two) agree. */
export function sumPrefixes(xs: readonly Expr[], size: number): Expr {
  return apply("sumPrefixes", xs, { size });
}

export function concat(xs: readonly Expr[], axis: number): Expr {
  return xs.length === 1 ? xs[0] : apply("concat", xs, { axis }, xs[0].dtype);
}

export function expand(x: Expr, dims: readonly Dim[]): Expr {
  return apply("expand", [x], { dims });
}

export function reduceSum(x: Expr, axes: readonly number[], keepDims = false): Expr {
  return apply("reduceSum", [x], { axes, keepDims });
}

export function reduceMean(x: Expr, axes: readonly number[], keepDims = false): Expr {
  return apply("reduceMean", [x], { axes, keepDims });
}

/** (x − mean)/√(var + eps)·w + b along the last axis. */
export function layerNorm(x: Expr, w: Expr, b: Expr, eps = 1e-5): Expr {
  return apply("layerNorm", [x, w, b], { eps });
}

/** x/√(mean(x²) + eps)·w along the last axis. */
export function rmsNorm(x: Expr, w: Expr, eps = 1e-5): Expr {
  return apply("rmsNorm", [x, w], { eps });
}

/** Gradient of `layerNorm` for x: r·(g − mean(g) − x̂·mean(g·x̂)), g = dy·w, x̂ = (x − mean)·r, r = 1/√(var + eps). */
export function layerNormGrad(x: Expr, w: Expr, dy: Expr, eps = 1e-5): Expr {
  return apply("layerNormGrad", [x, w, dy], { eps });
}

/** Gradient of `layerNorm` for its scale w: Σ over rows of dy·x̂, [D]. */
export function layerNormScaleGrad(x: Expr, dy: Expr, eps = 1e-5): Expr {
  return apply("layerNormScaleGrad", [x, dy], { eps });
}

/** Gradient of `rmsNorm` for x: r·(g − x̂·mean(g·x̂)), g = dy·w, x̂ = x·r, r = 1/√(mean(x²) + eps). */
export function rmsNormGrad(x: Expr, w: Expr, dy: Expr, eps = 1e-5): Expr {
  return apply("rmsNormGrad", [x, w, dy], { eps });
}

/** Gradient of `rmsNorm` for its scale w: Σ over rows of dy·x̂, [D]. */
export function rmsNormScaleGrad(x: Expr, dy: Expr, eps = 1e-5): Expr {
  return apply("rmsNormScaleGrad", [x, dy], { eps });
}

/**
 * cos or sin of position × frequency, positions i32 [..., S] → [..., S, frequencies].
 * @param frequencies radians per position of each column; for `rope` both halves are alike
 */
export function rotary(positions: Expr, frequencies: readonly number[], wave: "cos" | "sin"): Expr {
  return apply("rotary", [positions], { frequencies, wave });
}

/**
 * What is added to attention's scores: −1e9 where the key's position is after the query's or, with a window, not among the
 * `window` latest up to it; else 0. Positions i32 [S] and [K] → [S, K].
 */
export function causalBias(queries: Expr, keys: Expr, window?: number): Expr {
  return apply("causalBias", [queries, keys], window === undefined ? {} : { window });
}

/**
 * What is added to attention's scores so that no row sees what comes before its document: −2³⁰ for every place that the
 * key is before it, else 0. Starts i32 [B, R]: where in its sequence the document of each row begins → [B, 1, R, end − first].
 * @param first, end the keys' places in the sequence
 */
export function documentBias(starts: Expr, first: number, end: number): Expr {
  return apply("documentBias", [starts], { first, end });
}

/** Rows of x by index: x [T, D], rows i32 [L] → [L, D]. */
export function gatherRows(x: Expr, rows: Expr): Expr {
  return apply("gatherRows", [x, rows]);
}

/** Rotary position embedding with the rotate-half convention (method 2.2); x [..., S, dh], cos and sin [S, dh]. */
export function rope(x: Expr, cos: Expr, sin: Expr): Expr {
  const axis = x.dims.length - 1;
  const dh = x.dims[axis] as number;
  const rotated = concat([neg(slice(x, axis, dh / 2, dh)), slice(x, axis, 0, dh / 2)], axis);
  return add(mul(x, cos), mul(rotated, sin));
}

/** −log softmax(logits)[label] per row: logits [T, V], labels [T] i32 → [T]. */
export function crossEntropy(logits: Expr, labels: Expr): Expr {
  return apply("crossEntropy", [logits, labels]);
}

/** (softmax(logits) − onehot(labels)) · dLoss per row. */
export function crossEntropyGrad(logits: Expr, labels: Expr, dLoss: Expr): Expr {
  return apply("crossEntropyGrad", [logits, labels, dLoss]);
}

/** −Σ targets·log softmax(logits) per row: logits and targets [T, V] → [T]. */
export function softCrossEntropy(logits: Expr, targets: Expr): Expr {
  return apply("softCrossEntropy", [logits, targets]);
}

/** Names the outputs and collects the inputs: inputs and constants first, then parameters, each in order of first use. */
export function kernel(
  name: string,
  outputs: Readonly<Record<string, Expr>>,
  aliases: Readonly<Record<string, string>> = {},
): Kernel {
  const found = new Map<string, KernelInput>();
  const seen = new Set<Expr>();
  const visit = (expr: Expr): void => {
    if (seen.has(expr)) return;
    seen.add(expr);
    expr.inputs.forEach(visit);
    if (expr.op !== "input") return;
    const inputName = expr.attrs.name as string;
    if (!found.has(inputName)) found.set(inputName, { name: inputName, expr, role: expr.attrs.role as Role });
  };
  Object.values(outputs).forEach(visit);
  const all = [...found.values()];
  return {
    name,
    inputs: [...all.filter((i) => i.role !== "parameter"), ...all.filter((i) => i.role === "parameter")],
    outputs: Object.entries(outputs).map(([key, expr]): KernelOutput =>
      aliases[key] === undefined ? { name: key, expr } : { name: key, expr, aliasOf: aliases[key] },
    ),
  };
}
