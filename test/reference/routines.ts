/** The routines in plain TypeScript: what the fast ones are compared with. */
import type { Routines } from "../../src/engine/routines.js";

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

export const referenceRoutines: Routines = {
  adamw(p, g, m, v, o) {
    const correction1 = 1 - o.beta1 ** o.step;
    const correction2 = Math.sqrt(1 - o.beta2 ** o.step);
    const decay = 1 - o.learningRate * o.weightDecay;
    for (let i = 0; i < p.length; i++) {
      const grad = g[i] * o.gradScale;
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * grad;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * grad * grad;
      p[i] = p[i] * decay - ((o.learningRate / correction1) * m[i]) / (Math.sqrt(v[i]) / correction2 + o.eps);
    }
  },
  sumSquares(x) {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += x[i] * x[i];
    return sum;
  },
  scale(x, factor) {
    for (let i = 0; i < x.length; i++) x[i] *= factor;
  },
  addInto(y, x) {
    for (let i = 0; i < y.length; i++) y[i] += x[i];
  },
  add(out, a, b) {
    for (let i = 0; i < out.length; i++) out[i] = a[i] + b[i];
  },
  gatherRows(out, x, index, width) {
    for (let i = 0; i < index.length * width; i++)
      out[i] = x[index[Math.floor(i / width)] * width + (i % width)];
  },
  scatterAddRows(y, x, index, width) {
    for (let i = 0; i < index.length * width; i++) {
      const row = index[Math.floor(i / width)];
      if (row >= 0) y[row * width + (i % width)] += x[i];
    }
  },
  combineRows(out, base, rows, rowOf, weight, scale, { T, K, width }) {
    for (let t = 0; t < T; t++) {
      for (let i = 0; i < width; i++) {
        let sum = 0;
        for (let j = 0; j < K; j++) {
          const row = rowOf[t * K + j];
          if (row >= 0) sum = Math.fround(sum + Math.fround(weight[t * K + j] * rows[row * width + i]));
        }
        out[t * width + i] = base[t * width + i] + (scale === undefined ? sum : Math.fround(scale[t] * sum));
      }
    }
  },
  combineRowsGrad(dRows, dWeight, dScale, dOut, rows, rowOf, weight, scale, { T, K, width }) {
    for (let t = 0; t < T; t++) {
      const s = scale?.[t] ?? 1;
      let total = 0;
      for (let j = 0; j < K; j++) {
        const row = rowOf[t * K + j];
        let dot = 0;
        if (row >= 0) {
          const factor = Math.fround(s * weight[t * K + j]);
          for (let i = 0; i < width; i++) {
            const d = dOut[t * width + i];
            dRows[row * width + i] = factor * d;
            dot += rows[row * width + i] * d;
          }
        }
        dWeight[t * K + j] = s * dot;
        total += weight[t * K + j] * dot;
      }
      if (dScale !== undefined) dScale[t] = total;
    }
  },
  toBf16(dst, src) {
    for (let i = 0; i < src.length; i++) {
      float[0] = src[i];
      const word = bits[0];
      const isNan = (word & 0x7fffffff) > 0x7f800000;
      dst[i] = isNan ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
    }
  },
  fromBf16(dst, src) {
    for (let i = 0; i < src.length; i++) {
      bits[0] = src[i] << 16;
      dst[i] = float[0];
    }
  },
};
