// Element-wise hot loops in AssemblyScript with 128-bit SIMD. Arguments are byte offsets into the arena's memory and
// element counts. Sums use a fixed lane order, so results do not depend on where the arrays lie.

/** AdamW in place; `decay` = 1 − lr·wd, `rate` = lr/(1 − β₁ᵗ), `root` = 1/√(1 − β₂ᵗ). */
export function adamw(p: usize, g: usize, m: usize, v: usize, n: u32, b1: f32, b2: f32, eps: f32, decay: f32, rate: f32, root: f32, gradScale: f32): void {
  const B1 = f32x4.splat(b1), C1 = f32x4.splat(<f32>1 - b1), B2 = f32x4.splat(b2), C2 = f32x4.splat(<f32>1 - b2);
  const E = f32x4.splat(eps), D = f32x4.splat(decay), R = f32x4.splat(rate), Q = f32x4.splat(root), S = f32x4.splat(gradScale);
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const o = <usize>i << 2;
    const grad = f32x4.mul(v128.load(g + o), S);
    const mm = f32x4.add(f32x4.mul(B1, v128.load(m + o)), f32x4.mul(C1, grad));
    const vv = f32x4.add(f32x4.mul(B2, v128.load(v + o)), f32x4.mul(C2, f32x4.mul(grad, grad)));
    v128.store(m + o, mm);
    v128.store(v + o, vv);
    const denominator = f32x4.add(f32x4.mul(f32x4.sqrt(vv), Q), E);
    v128.store(p + o, f32x4.sub(f32x4.mul(v128.load(p + o), D), f32x4.div(f32x4.mul(R, mm), denominator)));
  }
  for (; i < n; i++) {
    const o = <usize>i << 2;
    const grad = load<f32>(g + o) * gradScale;
    const mm = b1 * load<f32>(m + o) + (<f32>1 - b1) * grad;
    const vv = b2 * load<f32>(v + o) + (<f32>1 - b2) * (grad * grad);
    store<f32>(m + o, mm);
    store<f32>(v + o, vv);
    store<f32>(p + o, load<f32>(p + o) * decay - (rate * mm) / (sqrt<f32>(vv) * root + eps));
  }
}

export function sumSquares(x: usize, n: u32): f64 {
  let a = f64x2.splat(0), b = f64x2.splat(0);
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const v = v128.load(x + (<usize>i << 2));
    const low = f64x2.promote_low_f32x4(v);
    const high = f64x2.promote_low_f32x4(i8x16.shuffle(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    a = f64x2.add(a, f64x2.mul(low, low));
    b = f64x2.add(b, f64x2.mul(high, high));
  }
  let sum = (f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1)) + (f64x2.extract_lane(b, 0) + f64x2.extract_lane(b, 1));
  for (; i < n; i++) {
    const value = <f64>load<f32>(x + (<usize>i << 2));
    sum += value * value;
  }
  return sum;
}

export function scale(x: usize, n: u32, factor: f32): void {
  const F = f32x4.splat(factor);
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const o = x + (<usize>i << 2);
    v128.store(o, f32x4.mul(v128.load(o), F));
  }
  for (; i < n; i++) {
    const o = x + (<usize>i << 2);
    store<f32>(o, load<f32>(o) * factor);
  }
}

export function add(out: usize, a: usize, b: usize, n: u32): void {
  let i: u32 = 0;
  for (; i + 4 <= n; i += 4) {
    const o = <usize>i << 2;
    v128.store(out + o, f32x4.add(v128.load(a + o), v128.load(b + o)));
  }
  for (; i < n; i++) {
    const o = <usize>i << 2;
    store<f32>(out + o, load<f32>(a + o) + load<f32>(b + o));
  }
}

/** out[t] = base[t] + scale[t] · Σⱼ weight[t, j] · rows[rowOf[t, j]]; scale 0: none. */
export function combineRows(out: usize, base: usize, rows: usize, rowOf: usize, weight: usize, scaleAt: usize, T: u32, K: u32, width: u32): void {
  const bytes = <usize>width << 2;
  const whole = bytes & ~15;
  for (let t: u32 = 0; t < T; t++) {
    const s = scaleAt == 0 ? f32x4.splat(1) : v128.load32_splat(scaleAt + (<usize>t << 2));
    const to = out + <usize>t * bytes;
    const from = base + <usize>t * bytes;
    for (let o: usize = 0; o < whole; o += 16) {
      let sum = f32x4.splat(0);
      for (let j: u32 = 0; j < K; j++) {
        const at = <usize>(t * K + j) << 2;
        const row = load<i32>(rowOf + at);
        if (row >= 0) sum = f32x4.add(sum, f32x4.mul(v128.load32_splat(weight + at), v128.load(rows + <usize>(<u32>row) * bytes + o)));
      }
      v128.store(to + o, f32x4.add(v128.load(from + o), f32x4.mul(s, sum)));
    }
    for (let o = whole; o < bytes; o += 4) {
      let sum: f32 = 0;
      for (let j: u32 = 0; j < K; j++) {
        const at = <usize>(t * K + j) << 2;
        const row = load<i32>(rowOf + at);
        if (row >= 0) sum += load<f32>(weight + at) * load<f32>(rows + <usize>(<u32>row) * bytes + o);
      }
      store<f32>(to + o, load<f32>(from + o) + f32x4.extract_lane(s, 0) * sum);
    }
  }
}

export function combineRowsGrad(dRows: usize, dWeight: usize, dScale: usize, dOut: usize, rows: usize, rowOf: usize, weight: usize, scaleAt: usize, T: u32, K: u32, width: u32): void {
  const bytes = <usize>width << 2;
  const whole = bytes & ~15;
  for (let t: u32 = 0; t < T; t++) {
    const s: f32 = scaleAt == 0 ? 1 : load<f32>(scaleAt + (<usize>t << 2));
    const d = dOut + <usize>t * bytes;
    let total: f32 = 0;
    for (let j: u32 = 0; j < K; j++) {
      const at = <usize>(t * K + j) << 2;
      const row = load<i32>(rowOf + at);
      const w = load<f32>(weight + at);
      let dot: f32 = 0;
      if (row >= 0) {
        const factor = f32x4.splat(s * w);
        const r = rows + <usize>(<u32>row) * bytes;
        const dr = dRows + <usize>(<u32>row) * bytes;
        let sum = f32x4.splat(0);
        for (let o: usize = 0; o < whole; o += 16) {
          const g = v128.load(d + o);
          sum = f32x4.add(sum, f32x4.mul(v128.load(r + o), g));
          v128.store(dr + o, f32x4.mul(factor, g));
        }
        dot = (f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1)) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3));
        for (let o = whole; o < bytes; o += 4) {
          const g = load<f32>(d + o);
          dot += load<f32>(r + o) * g;
          store<f32>(dr + o, s * w * g);
        }
      }
      store<f32>(dWeight + at, s * dot);
      total += w * dot;
    }
    if (dScale != 0) store<f32>(dScale + (<usize>t << 2), total);
  }
}

/** Round to nearest even; a NaN stays one. */
export function toBf16(dst: usize, src: usize, n: u32): void {
  for (let i: u32 = 0; i < n; i++) {
    const word = load<u32>(src + (<usize>i << 2));
    const rounded = (word & 0x7fffffff) > 0x7f800000 ? (word >> 16) | 0x40 : (word + 0x7fff + ((word >> 16) & 1)) >> 16;
    store<u16>(dst + (<usize>i << 1), <u16>rounded);
  }
}

export function fromBf16(dst: usize, src: usize, n: u32): void {
  for (let i: u32 = 0; i < n; i++) store<u32>(dst + (<usize>i << 2), <u32>load<u16>(src + (<usize>i << 1)) << 16);
}
