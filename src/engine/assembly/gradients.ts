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
  1, 0.23164189, 1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.5, -0.5, 0.39894228,
  12582912,
]);

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
  const shifted = f32x4.add(f32x4.mul(clamped, c(1)), c(20));
  const n = f32x4.sub(shifted, c(20));
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
 * dy · (Φ(x) + x·φ(x)). Φ from erfc by Abramowitz & Stegun 7.1.26 (absolute error 1.5e-7), whose exponential is
 * the one φ needs.
 */
// @ts-ignore: decorator
@inline
function geluGradOf(x: v128, dy: v128): v128 {
  const one = c(10);
  const e = expNegative(f32x4.mul(f32x4.mul(x, x), c(18)));
  const t = f32x4.div(one, f32x4.add(one, f32x4.mul(f32x4.abs(x), c(11))));
  let poly = f32x4.add(f32x4.mul(c(12), t), c(13));
  poly = f32x4.add(f32x4.mul(poly, t), c(14));
  poly = f32x4.add(f32x4.mul(poly, t), c(15));
  poly = f32x4.add(f32x4.mul(poly, t), c(16));
  const tail = f32x4.mul(c(17), f32x4.mul(f32x4.mul(poly, t), e));
  // The sign of x chooses between Φ(−|x|) = tail and 1 − tail.
  const cdf = v128.bitselect(tail, f32x4.sub(one, tail), i32x4.shr_s(x, 31));
  return f32x4.mul(dy, f32x4.add(cdf, f32x4.mul(x, f32x4.mul(e, c(19)))));
}

/** out = dy · gelu′(x) */
export function geluGrad(out: usize, x: usize, dy: usize, n: u32): void {
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const o = <usize>i << 2;
    v128.store(out + o, geluGradOf(v128.load(x + o), v128.load(dy + o)));
  }
  for (; i < n; i++) {
    const o = <usize>i << 2;
    v128.store32_lane(out + o, geluGradOf(splat(x + o), splat(dy + o)), 0);
  }
}

/** dy · σ(x)·(1 + x·(1 − σ(x))); σ from exp(−|x|), which cannot overflow. */
// @ts-ignore: decorator
@inline
function siluGradOf(x: v128, dy: v128): v128 {
  const one = c(10);
  const e = expNegative(f32x4.neg(f32x4.abs(x)));
  const positive = f32x4.div(one, f32x4.add(one, e));
  const s = v128.bitselect(f32x4.mul(e, positive), positive, f32x4.lt(x, f32x4.splat(0)));
  return f32x4.mul(dy, f32x4.mul(s, f32x4.add(one, f32x4.mul(x, f32x4.sub(one, s)))));
}

/** out = dy · silu′(x) */
export function siluGrad(out: usize, x: usize, dy: usize, n: u32): void {
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const o = <usize>i << 2;
    v128.store(out + o, siluGradOf(v128.load(x + o), v128.load(dy + o)));
  }
  for (; i < n; i++) {
    const o = <usize>i << 2;
    v128.store32_lane(out + o, siluGradOf(splat(x + o), splat(dy + o)), 0);
  }
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
