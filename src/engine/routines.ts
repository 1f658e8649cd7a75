/**
 * Element-wise hot loops. They are WebAssembly SIMD over the arena that holds the operands (copied there when they
 * lie in different arenas); tests compare them with plain TypeScript (`test/reference/routines.ts`).
 * All are deterministic: sums run in a fixed order that does not depend on alignment.
 * T = token rows, D = width, R = routed rows, K = kept choices per token.
 */
export interface Routines {
  /** AdamW with decoupled weight decay, in place. Bias correction uses `step` (from 1). Gradients are multiplied by `gradScale` first. */
  adamw(
    p: Float32Array,
    g: Float32Array,
    m: Float32Array,
    v: Float32Array,
    options: {
      learningRate: number;
      beta1: number;
      beta2: number;
      eps: number;
      weightDecay: number;
      step: number;
      gradScale: number;
    },
  ): void;
  /** Σ x², accumulated in f64 in an order that depends on the length alone. */
  sumSquares(x: Float32Array): number;
  /** x *= factor */
  scale(x: Float32Array, factor: number): void;
  /** y += x */
  addInto(y: Float32Array, x: Float32Array): void;
  /** out = a + b */
  add(out: Float32Array, a: Float32Array, b: Float32Array): void;
  /** out[r, :] = x[index[r], :] for r < index.length; rows of `width` floats. */
  gatherRows(out: Float32Array, x: Float32Array, index: Int32Array, width: number): void;
  /** y[index[r], :] += x[r, :] in the order of r. Negative indices are skipped. */
  scatterAddRows(y: Float32Array, x: Float32Array, index: Int32Array, width: number): void;
  /**
   * out[t, :] = base[t, :] + scale[t] * Σ_j weight[t, j] * rows[rowOf[t, j], :], j ascending; rowOf < 0 contributes nothing.
   * `scale` may be undefined (1). `base` may alias `out`. weight, rowOf: [T, K].
   */
  combineRows(
    out: Float32Array,
    base: Float32Array,
    rows: Float32Array,
    rowOf: Int32Array,
    weight: Float32Array,
    scale: Float32Array | undefined,
    dims: { T: number; K: number; width: number },
  ): void;
  /**
   * Derivative of `combineRows` for its rows and weights, given dout [T, D]:
   * dRows[rowOf[t,j], :] = scale[t] * weight[t,j] * dout[t, :];
   * dWeight[t, j] = scale[t] * <rows[rowOf[t,j], :], dout[t, :]>; dScale[t] = Σ_j weight[t,j] <rows[rowOf[t,j], :], dout[t, :]>.
   * Entries with rowOf < 0 get dWeight 0. dScale is written only when given.
   */
  combineRowsGrad(
    dRows: Float32Array,
    dWeight: Float32Array,
    dScale: Float32Array | undefined,
    dOut: Float32Array,
    rows: Float32Array,
    rowOf: Int32Array,
    weight: Float32Array,
    scale: Float32Array | undefined,
    dims: { T: number; K: number; width: number },
  ): void;
  /** dst (bf16, round to nearest even) = src (f32). */
  toBf16(dst: Uint16Array, src: Float32Array): void;
  fromBf16(dst: Float32Array, src: Uint16Array): void;
}
