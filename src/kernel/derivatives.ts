/**
 * The calculus of each op: gradients of its inputs from the gradient of its output, built from the same ops.
 * Broadcasting is undone once, in the walk (`differentiate.ts`), not here.
 */
import * as k from "./build.js";
import type { Expr } from "./kernel.js";
import type { OpName } from "./ops.js";

/** Gradient per input; undefined where an input has none (integers). */
export type DerivativeRule = (e: Expr, dy: Expr) => readonly (Expr | undefined)[];

const last = (x: Expr): readonly number[] => [x.dims.length - 1];
const rowSum = (x: Expr): Expr => k.reduceSum(x, last(x), true);
const rowMean = (x: Expr): Expr => k.reduceMean(x, last(x), true);
const none: DerivativeRule = () => [];
/** Of integers: constants with respect to everything. */
const ofIntegers: DerivativeRule = ({ inputs }) => inputs.map(() => undefined);

const ofInference: DerivativeRule = ({ op }) => {
  throw new Error(`${op} is for inference, it has no derivative`);
};

const SQRT_2PI = Math.sqrt(2 * Math.PI);

export const DERIVATIVES: Readonly<Record<OpName, DerivativeRule>> = {
  input: none,
  constant: none,
  add: (_, dy) => [dy, dy],
  sub: (_, dy) => [dy, k.neg(dy)],
  mul: ({ inputs: [a, b] }, dy) => [k.mul(dy, b), k.mul(dy, a)],
  div: (e, dy) => {
    const [, b] = e.inputs;
    const da = k.div(dy, b);
    return [da, k.neg(k.mul(da, e))];
  },
  neg: (_, dy) => [k.neg(dy)],
  exp: (e, dy) => [k.mul(dy, e)],
  log: ({ inputs: [x] }, dy) => [k.div(dy, x)],
  sqrt: (e, dy) => [k.div(k.mul(dy, k.scalar(0.5)), e)],
  reciprocal: (e, dy) => [k.neg(k.mul(dy, k.mul(e, e)))],
  tanh: (e, dy) => [k.mul(dy, k.sub(k.scalar(1), k.mul(e, e)))],
  sigmoid: (e, dy) => [k.mul(dy, k.mul(e, k.sub(k.scalar(1), e)))],
  erf: ({ inputs: [x] }, dy) => [
    k.mul(dy, k.mul(k.scalar(2 / Math.sqrt(Math.PI)), k.exp(k.neg(k.mul(x, x))))),
  ],
  softplus: ({ inputs: [x] }, dy) => [k.mul(dy, k.sigmoid(x))],
  gelu: ({ inputs: [x] }, dy) => [k.geluGrad(x, dy)],
  // gelu″(x) = φ(x)·(2 − x²)
  geluGrad: ({ inputs: [x, g] }, dy) => {
    const density = k.mul(k.scalar(1 / SQRT_2PI), k.exp(k.mul(k.scalar(-0.5), k.mul(x, x))));
    return [k.mul(k.mul(dy, g), k.mul(density, k.sub(k.scalar(2), k.mul(x, x)))), k.geluGrad(x, dy)];
  },
  silu: ({ inputs: [x] }, dy) => [k.siluGrad(x, dy)],
  // silu″(x) = σ(1 − σ)(2 + x(1 − 2σ))
  siluGrad: ({ inputs: [x, g] }, dy) => {
    const s = k.sigmoid(x);
    const one = k.scalar(1);
    const curvature = k.mul(
      k.mul(s, k.sub(one, s)),
      k.add(k.scalar(2), k.mul(x, k.sub(one, k.mul(k.scalar(2), s)))),
    );
    return [k.mul(k.mul(dy, g), curvature), k.siluGrad(x, dy)];
  },
  clamp: ({ inputs: [x], attrs }, dy) => [k.clampGrad(x, dy, attrs.limit as number)],
  clampGrad: ({ inputs: [x], attrs }, dy) => [undefined, k.clampGrad(x, dy, attrs.limit as number)],
  matmul: (e, dy) => matmulGradients(e, dy, e.inputs[0], e.inputs[1]),
  quantisedLinear: () => {
    throw new Error(
      "quantisedLinear has no derivative: quantised weights are for inference, train those they were made of",
    );
  },
  linear: ({ inputs: [x, w, b] }, dy) => [
    k.matmul(dy, w),
    k.matmul(dy, x, { transA: true }),
    b === undefined ? undefined : k.reduceSum(dy, [0]),
  ],
  gemmAccumulate: (e, dy) => [dy, ...matmulGradients(e, dy, e.inputs[1], e.inputs[2])],
  transpose: ({ attrs }, dy) => {
    const perm = attrs.perm as readonly number[];
    return [
      k.transpose(
        dy,
        perm.map((_, i) => perm.indexOf(i)),
      ),
    ];
  },
  reshape: ({ inputs: [x, ...sizes] }, dy) => [k.reshape(dy, x.dims, ...sizes)],
  slice: ({ inputs: [x], attrs }, dy) => {
    const axis = attrs.axis as number;
    return [k.pad(dy, axis, attrs.start as number, (x.dims[axis] as number) - (attrs.end as number))];
  },
  pad: ({ inputs: [x], attrs }, dy) => {
    const [axis, before] = [attrs.axis as number, attrs.before as number];
    return [k.slice(dy, axis, before, before + (x.dims[axis] as number))];
  },
  sumPrefixes: ({ inputs }, dy) => {
    const axis = dy.dims.length - 2;
    return inputs.map((x) => k.slice(dy, axis, 0, x.dims[axis] as number));
  },
  concat: ({ inputs, attrs }, dy) => {
    const axis = attrs.axis as number;
    if (typeof dy.dims[axis] !== "number") throw new Error("concat along a symbolic axis has no derivative");
    let start = 0;
    return inputs.map((x) => {
      const end = start + (x.dims[axis] as number);
      const part = k.slice(dy, axis, start, end);
      start = end;
      return part;
    });
  },
  // The walk reduces a broadcast gradient back to the input's dims.
  expand: (_, dy) => [dy],
  reduceSum: (e, dy) => [k.expand(withKeptAxes(e, dy), e.inputs[0].dims)],
  reduceMean: (e, dy) => {
    const axes = e.attrs.axes as readonly number[];
    const count = axes.reduce((n, axis) => n * (e.inputs[0].dims[axis] as number), 1);
    return [k.expand(k.mul(withKeptAxes(e, dy), k.scalar(1 / count)), e.inputs[0].dims)];
  },
  rotary: ofIntegers,
  causalBias: ofIntegers,
  documentBias: ofIntegers,
  gatherRows: ofInference,
  cachedAttention: ofInference,
  cacheAfter: ofInference,
  softmax: (e, dy) => [k.softmaxGrad(e, dy)],
  softmaxGrad: ({ inputs: [p, dp] }, dy) => [
    k.sub(k.mul(dy, k.sub(dp, rowSum(k.mul(dp, p)))), k.mul(dp, rowSum(k.mul(dy, p)))),
    k.softmaxGrad(p, dy),
  ],
  layerNorm: ({ inputs: [x, w], attrs }, dy) => {
    const eps = attrs.eps as number;
    return [k.layerNormGrad(x, w, dy, eps), k.layerNormScaleGrad(x, dy, eps), dy];
  },
  layerNormGrad: normGradDerivative(layerNormParts),
  layerNormScaleGrad: normScaleGradDerivative(layerNormParts),
  rmsNorm: ({ inputs: [x, w], attrs }, dy) => {
    const eps = attrs.eps as number;
    return [k.rmsNormGrad(x, w, dy, eps), k.rmsNormScaleGrad(x, dy, eps)];
  },
  rmsNormGrad: normGradDerivative(rmsNormParts),
  rmsNormScaleGrad: normScaleGradDerivative(rmsNormParts),
  crossEntropy: ({ inputs: [logits, labels] }, dy) => [k.crossEntropyGrad(logits, labels, dy), undefined],
  crossEntropyGrad: ({ inputs: [logits, labels, dLoss] }, dy) => {
    const column = k.reshape(dLoss, [dLoss.dims[0], 1]);
    const ones = k.add(k.mul(dLoss, k.scalar(0)), k.scalar(1));
    return [
      k.softmaxGrad(k.softmax(logits), k.mul(dy, column)),
      undefined,
      k.reduceSum(k.mul(dy, k.crossEntropyGrad(logits, labels, ones)), [1]),
    ];
  },
  softCrossEntropy: ({ inputs: [logits, targets] }, dy) => {
    const column = k.reshape(dy, [dy.dims[0], 1]);
    const p = k.softmax(logits);
    return [k.mul(k.sub(k.mul(p, rowSum(targets)), targets), column), k.mul(k.neg(k.log(p)), column)];
  },
};

/** d(op(a)·op(b)) for every combination of transposes. */
function matmulGradients(e: Expr, dy: Expr, a: Expr, b: Expr): [Expr, Expr] {
  const alpha = e.attrs.alpha as number;
  const [ta, tb] = [e.attrs.transA as boolean, e.attrs.transB as boolean];
  const da = ta
    ? k.matmul(b, dy, { transA: tb, transB: true, alpha })
    : k.matmul(dy, b, { transB: !tb, alpha });
  const db = tb
    ? k.matmul(dy, a, { transA: true, transB: ta, alpha })
    : k.matmul(a, dy, { transA: !ta, alpha });
  return [da, db];
}

/** A norm as its gradient needs it: x̂, r, and the centring C of g (the identity for RMSNorm). */
interface NormParts {
  readonly normed: Expr;
  readonly r: Expr;
  readonly centre: (g: Expr) => Expr;
}

function layerNormParts(x: Expr, eps: number): NormParts {
  const centre = (g: Expr): Expr => k.sub(g, rowMean(g));
  const { normed, r } = rmsNormParts(centre(x), eps);
  return { normed, r, centre };
}

function rmsNormParts(x: Expr, eps: number): NormParts {
  const r = k.reciprocal(k.sqrt(k.add(rowMean(k.mul(x, x)), k.scalar(eps))));
  return { normed: k.mul(x, r), r, centre: (g) => g };
}

/** L(g) = dx̂/dx · g = r·(C(g) − x̂·mean(g·x̂)): symmetric, since x̂ is centred. */
function applyJacobian({ normed, r, centre }: NormParts, g: Expr): Expr {
  return k.mul(r, k.sub(centre(g), k.mul(normed, rowMean(k.mul(g, normed)))));
}

/**
 * y = L(g), g = w·dy, and its gradient v: L is symmetric, so g receives L(v). Of x, with F = ⟨v, L(g)⟩,
 * dr/dx = −r²·x̂/D and dx̂/dx = L: dF/dx = −x̂·r·mean(v·y) − r·(mean(g·x̂)·L(v) + mean(v·x̂)·L(g)).
 */
function normGradDerivative(partsOf: (x: Expr, eps: number) => NormParts): DerivativeRule {
  return ({ inputs: [x, w, dy], attrs }, v) => {
    const parts = partsOf(x, attrs.eps as number);
    const { normed, r } = parts;
    const g = k.mul(w, dy);
    const [Lv, Lg] = [applyJacobian(parts, v), applyJacobian(parts, g)];
    const mean = (a: Expr, b: Expr): Expr => rowMean(k.mul(a, b));
    const curvature = k.add(k.mul(mean(g, normed), Lv), k.mul(mean(v, normed), Lg));
    const dx = k.neg(k.mul(r, k.add(k.mul(normed, mean(v, Lg)), curvature)));
    return [dx, k.mul(dy, Lv), k.mul(w, Lv)];
  };
}

/** y = Σ over rows of dy·x̂, and its gradient v [D]. */
function normScaleGradDerivative(partsOf: (x: Expr, eps: number) => NormParts): DerivativeRule {
  return ({ inputs: [x, dy], attrs }, v) => {
    const parts = partsOf(x, attrs.eps as number);
    return [applyJacobian(parts, k.mul(dy, v)), k.mul(parts.normed, v)];
  };
}

function withKeptAxes(e: Expr, dy: Expr): Expr {
  if (e.attrs.keepDims) return dy;
  const axes = new Set(e.attrs.axes as readonly number[]);
  return k.reshape(
    dy,
    e.inputs[0].dims.map((dim, axis) => (axes.has(axis) ? 1 : dim)),
  );
}
