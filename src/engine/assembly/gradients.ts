// Derivatives that take one pass over memory where a tensor graph takes ten.
// Rows of n elements may end in the middle of a vector: the last elements are taken one at a time by the same vector
// arithmetic, so that a value never depends on where in a row it lies.
import { scale } from "./routines";

// @ts-ignore: decorator
@inline
function splat(at: usize): v128 {
  return v128.load32_splat(at);
}

// @ts-ignore: decorator
@inline
function lanes(sum: v128): f32 {
  return (f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1)) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
}

// Constants lie in memory and are spread as they are loaded: a vector constant in the code costs three instructions.
const C: usize = memory.data<f32>([
  -87, 1.44269504, 0.693359375, -2.1219444e-4,
  1.987569150e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
  1, 0.5, 12582912,
  5.8, -5.8,
  1.4834157e-7, 3.5018096e-5, 3.224864e-6, 1.4223746e-2, -3.210244e-2, 0.7978852,
  -4.60986e-9, 8.340442e-6, 1.8632952e-4, 3.4477348e-3, 4.0512618e-2, 0.2931056,
  17.5, -17.5,
  7.6013945e-11, 8.942785e-8, 1.9161327e-5, 1.4342207e-3, 3.3149242e-2, 0.49999994,
  1.4920217e-12, 6.82459e-9, 3.0884228e-6, 3.698217e-4, 1.6696146e-2, 0.23296486,
]);
const GELU: usize = 13, SILU: usize = 27;

// @ts-ignore: decorator
@inline
function c(index: usize): v128 {
  return v128.load32_splat(C + (index << 2));
}

/** exp(x) for x ≤ 0 by 2ⁿ·exp(r), |r| ≤ ln2/2, polynomial of degree 6; e⁻⁸⁷ below −87. */
// @ts-ignore: decorator
@inline
function expNegative(x: v128): v128 {
  const clamped = f32x4.pmax(x, c(0));
  // Adding 1.5·2²³ rounds to a whole number and leaves it in the lowest bits.
  const shifted = f32x4.add(f32x4.mul(clamped, c(1)), c(12));
  const n = f32x4.sub(shifted, c(12));
  let r = f32x4.sub(clamped, f32x4.mul(n, c(2)));
  r = f32x4.sub(r, f32x4.mul(n, c(3)));
  let y = f32x4.add(f32x4.mul(c(4), r), c(5));
  y = f32x4.add(f32x4.mul(y, r), c(6));
  y = f32x4.add(f32x4.mul(y, r), c(7));
  y = f32x4.add(f32x4.mul(y, r), c(8));
  y = f32x4.add(f32x4.mul(y, r), c(9));
  y = f32x4.add(f32x4.add(f32x4.mul(y, f32x4.mul(r, r)), r), c(10));
  // y is within [½, 2): adding n to its exponent multiplies it by 2ⁿ, and −87 keeps the result normal.
  return i32x4.add(y, i32x4.shl(shifted, 23));
}

/**
 * dy · f′(x) for the functions f whose slope less ½ is odd, with the constants at `at`: ½ + h·P(h²)/Q(h²), where h is x held within
 * where the slope differs from 0 or 1. P and Q of degrees 5 and 6 are of least squares, weighted until the largest error was least:
 * 9e-8 (GELU: Φ(x) + x·φ(x)) and 1.2e-8 (SiLU: σ·(1 + x·(1 − σ))); 3.2e-7 in single precision.
 */
// @ts-ignore: decorator
@inline
function slopeTimes(dy: v128, x: v128, at: usize): v128 {
  const h = f32x4.pmax(f32x4.pmin(x, c(at)), c(at + 1));
  const u = f32x4.mul(h, h);
  let p = f32x4.add(f32x4.mul(c(at + 2), u), c(at + 3));
  p = f32x4.add(f32x4.mul(p, u), c(at + 4));
  p = f32x4.add(f32x4.mul(p, u), c(at + 5));
  p = f32x4.add(f32x4.mul(p, u), c(at + 6));
  p = f32x4.add(f32x4.mul(p, u), c(at + 7));
  let q = f32x4.add(f32x4.mul(c(at + 8), u), c(at + 9));
  q = f32x4.add(f32x4.mul(q, u), c(at + 10));
  q = f32x4.add(f32x4.mul(q, u), c(at + 11));
  q = f32x4.add(f32x4.mul(q, u), c(at + 12));
  q = f32x4.add(f32x4.mul(q, u), c(at + 13));
  q = f32x4.add(f32x4.mul(q, u), c(10));
  return f32x4.mul(dy, f32x4.add(f32x4.div(f32x4.mul(h, p), q), c(11)));
}

// @ts-ignore: decorator
@inline
function slopes(out: usize, x: usize, dy: usize, n: u32, at: usize): void {
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const o = <usize>i << 2;
    v128.store(out + o, slopeTimes(v128.load(dy + o), v128.load(x + o), at));
  }
  for (; i < n; i++) {
    const o = <usize>i << 2;
    v128.store32_lane(out + o, slopeTimes(splat(dy + o), splat(x + o), at), 0);
  }
}

/** out = dy · gelu′(x) */
export function geluGrad(out: usize, x: usize, dy: usize, n: u32): void {
  slopes(out, x, dy, n, GELU);
}

/** out = dy · silu′(x) */
export function siluGrad(out: usize, x: usize, dy: usize, n: u32): void {
  slopes(out, x, dy, n, SILU);
}

// @ts-ignore: decorator
@inline
function rowSum(x: usize, n: u32): f32 {
  let sum = f32x4.splat(0);
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) sum = f32x4.add(sum, v128.load(x + (<usize>i << 2)));
  let total = lanes(sum);
  for (; i < n; i++) total += load<f32>(x + (<usize>i << 2));
  return total;
}

/** Σ (x − shift)² */
// @ts-ignore: decorator
@inline
function rowSquares(x: usize, shift: f32, n: u32): f32 {
  const S = f32x4.splat(shift);
  let sum = f32x4.splat(0);
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const d = f32x4.sub(v128.load(x + (<usize>i << 2)), S);
    sum = f32x4.add(sum, f32x4.mul(d, d));
  }
  let total = lanes(sum);
  for (; i < n; i++) {
    const d = load<f32>(x + (<usize>i << 2)) - shift;
    total += d * d;
  }
  return total;
}

/** out = p ⊙ (dp − Σ p ⊙ dp) per row; out may be dp. */
export function softmaxGrad(out: usize, p: usize, dp: usize, rows: u32, n: u32): void {
  const bytes = <usize>n << 2;
  for (let t: u32 = 0; t < rows; t++, out += bytes, p += bytes, dp += bytes) {
    let sum = f32x4.splat(0);
    let i: u32 = 0;
    for (; i + 4 <= n; i += 4) {
      const o = <usize>i << 2;
      sum = f32x4.add(sum, f32x4.mul(v128.load(p + o), v128.load(dp + o)));
    }
    let delta = lanes(sum);
    for (; i < n; i++) {
      const o = <usize>i << 2;
      delta += load<f32>(p + o) * load<f32>(dp + o);
    }
    const D = f32x4.splat(delta);
    for (i = 0; i + 4 <= n; i += 4) {
      const o = <usize>i << 2;
      v128.store(out + o, f32x4.mul(v128.load(p + o), f32x4.sub(v128.load(dp + o), D)));
    }
    for (; i < n; i++) {
      const o = <usize>i << 2;
      store<f32>(out + o, load<f32>(p + o) * (load<f32>(dp + o) - delta));
    }
  }
}

/** Gradient of LayerNorm (centred = 1) or RMSNorm (0) for x: r·(g − mean(g) − x̂·mean(g·x̂)), g = dy·w; out may be dy. */
export function normGrad(out: usize, x: usize, w: usize, dy: usize, rows: u32, n: u32, eps: f32, centred: u32): void {
  const bytes = <usize>n << 2;
  const inverse = <f32>1 / <f32>n;
  for (let t: u32 = 0; t < rows; t++, out += bytes, x += bytes, dy += bytes) {
    const mean: f32 = centred ? rowSum(x, n) * inverse : 0;
    const r: f32 = <f32>1 / sqrt<f32>(rowSquares(x, mean, n) * inverse + eps);
    const M = f32x4.splat(mean);
    let gs = f32x4.splat(0), hs = f32x4.splat(0);
    let i: u32 = 0;
    for (; i + 4 <= n; i += 4) {
      const o = <usize>i << 2;
      const g = f32x4.mul(v128.load(dy + o), v128.load(w + o));
      gs = f32x4.add(gs, g);
      hs = f32x4.add(hs, f32x4.mul(g, f32x4.sub(v128.load(x + o), M)));
    }
    let sum = lanes(gs), along = lanes(hs);
    for (; i < n; i++) {
      const o = <usize>i << 2;
      const g = load<f32>(dy + o) * load<f32>(w + o);
      sum += g;
      along += g * (load<f32>(x + o) - mean);
    }
    // x̂·mean(g·x̂) = (x − mean)·r²·mean(g·(x − mean))
    const shift: f32 = centred ? sum * inverse : 0;
    const slope: f32 = along * inverse * r * r;
    const G = f32x4.splat(shift), A = f32x4.splat(slope), R = f32x4.splat(r);
    for (i = 0; i + 4 <= n; i += 4) {
      const o = <usize>i << 2;
      const g = f32x4.sub(f32x4.mul(v128.load(dy + o), v128.load(w + o)), G);
      v128.store(out + o, f32x4.mul(R, f32x4.sub(g, f32x4.mul(f32x4.sub(v128.load(x + o), M), A))));
    }
    for (; i < n; i++) {
      const o = <usize>i << 2;
      const g = load<f32>(dy + o) * load<f32>(w + o) - shift;
      store<f32>(out + o, r * (g - (load<f32>(x + o) - mean) * slope));
    }
  }
}

/** out[n] = Σ over rows of dy·x̂, rows in order. */
export function normScaleGrad(out: usize, x: usize, dy: usize, rows: u32, n: u32, eps: f32, centred: u32): void {
  const bytes = <usize>n << 2;
  const inverse = <f32>1 / <f32>n;
  memory.fill(out, 0, bytes);
  for (let t: u32 = 0; t < rows; t++, x += bytes, dy += bytes) {
    const mean: f32 = centred ? rowSum(x, n) * inverse : 0;
    const r: f32 = <f32>1 / sqrt<f32>(rowSquares(x, mean, n) * inverse + eps);
    const M = f32x4.splat(mean), R = f32x4.splat(r);
    let i: u32 = 0;
    for (; i + 4 <= n; i += 4) {
      const o = <usize>i << 2;
      const normed = f32x4.mul(f32x4.sub(v128.load(x + o), M), R);
      v128.store(out + o, f32x4.add(v128.load(out + o), f32x4.mul(v128.load(dy + o), normed)));
    }
    for (; i < n; i++) {
      const o = <usize>i << 2;
      store<f32>(out + o, load<f32>(out + o) + load<f32>(dy + o) * ((load<f32>(x + o) - mean) * r));
    }
  }
}

/** out = (softmax(logits) − onehot(label)) · dLoss per row; out may be logits. */
export function crossEntropyGrad(out: usize, logits: usize, labels: usize, dLoss: usize, rows: u32, n: u32): void {
  const bytes = <usize>n << 2;
  for (let t: u32 = 0; t < rows; t++, out += bytes, logits += bytes) {
    let top = f32x4.splat(-Infinity);
    let i: u32 = 0;
    for (; i + 4 <= n; i += 4) top = f32x4.pmax(top, v128.load(logits + (<usize>i << 2)));
    let most = max<f32>(max<f32>(f32x4.extract_lane(top, 0), f32x4.extract_lane(top, 1)), max<f32>(f32x4.extract_lane(top, 2), f32x4.extract_lane(top, 3)));
    for (; i < n; i++) most = max<f32>(most, load<f32>(logits + (<usize>i << 2)));
    const M = f32x4.splat(most);
    let sum = f32x4.splat(0);
    let total: f64 = 0;
    for (i = 0; i + 4 <= n; i += 4) {
      const o = <usize>i << 2;
      const e = expNegative(f32x4.sub(v128.load(logits + o), M));
      sum = f32x4.add(sum, e);
      v128.store(out + o, e);
    }
    total = lanes(sum);
    for (; i < n; i++) {
      const o = <usize>i << 2;
      const e = expNegative(f32x4.sub(splat(logits + o), M));
      v128.store32_lane(out + o, e, 0);
      total += f32x4.extract_lane(e, 0);
    }
    const d = load<f32>(dLoss + (<usize>t << 2));
    scale(out, n, d / <f32>total);
    const label = out + (<usize>load<u32>(labels + (<usize>t << 2)) << 2);
    store<f32>(label, load<f32>(label) - d);
  }
}
