/** The slow, obvious meaning of each op. The oracle that everything else is checked against. */
import { numElements } from "../../src/core/tensor.js";
import type { Expr } from "../../src/kernel/kernel.js";
import type { OpName } from "../../src/kernel/ops.js";
import { type QuantisedMatrix, dequantise } from "../../src/kernel/quantise.js";
import {
  type Values,
  type ReferenceRule,
  strides,
  withRows,
  broadcastIndex,
  unary,
  binary,
  SQRT_2PI,
  erf,
  cdf,
  sigmoid,
  rows,
  softmaxRow,
  product,
  reduce,
  alongAxis,
  place,
} from "./values.js";

export const REFERENCE_RULES: Readonly<Record<OpName, ReferenceRule>> = {
  input: () => {
    throw new Error("inputs are bound, not computed");
  },
  constant: (e) => Float64Array.from(e.attrs.values as Float32Array),
  add: binary((a, b) => a + b),
  sub: binary((a, b) => a - b),
  mul: binary((a, b) => a * b),
  div: binary((a, b) => a / b),
  neg: unary((x) => -x),
  exp: unary(Math.exp),
  log: unary(Math.log),
  sqrt: unary(Math.sqrt),
  reciprocal: unary((x) => 1 / x),
  tanh: unary(Math.tanh),
  sigmoid: unary(sigmoid),
  erf: unary(erf),
  softplus: unary((x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))),
  gelu: unary((x) => x * cdf(x)),
  geluGrad: binary((x, dy) => dy * (cdf(x) + (x * Math.exp(-0.5 * x * x)) / SQRT_2PI)),
  silu: unary((x) => x * sigmoid(x)),
  siluGrad: binary((x, dy) => dy * sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
  clamp: (e, [x]) => {
    const limit = e.attrs.limit as number;
    return x.data.map((value) => Math.min(Math.max(value, -limit), limit));
  },
  clampGrad: (e, [x, dy]) =>
    dy.data.map((value, i) => (Math.abs(x.data[i]) > (e.attrs.limit as number) ? 0 : value)),
  matmul: (e, [a, b], dims) => product(e, a, b, new Float64Array(numElements(dims)), dims),
  // Rows are read in 8 bits, every block of neighbours on a scale of its own: the greatest is ±127.
  quantisedLinear: ({ attrs }, [x, b], [T, N]) => {
    const weight = attrs.weight as QuantisedMatrix;
    const [w, K] = [dequantise(weight), weight.dims[1]];
    const read = x.data.map((value, at) => {
      const column = at % K;
      const start = at - (column % weight.block);
      const block = x.data.subarray(start, Math.min(start + weight.block, at - column + K));
      const scale = Math.max(...block.map(Math.abs)) / 127;
      return scale === 0 ? 0 : Math.round(value / scale) * scale;
    });
    return Float64Array.from({ length: T * N }, (_, at) => {
      const [row, out] = [Math.floor(at / N), at % N];
      let sum = b?.data[out] ?? 0;
      for (let i = 0; i < K; i++) sum += read[row * K + i] * w[out * K + i];
      return sum;
    });
  },
  linear: (_, [x, w, b], dims) => {
    const [n, out] = dims;
    const inner = x.dims[1];
    const y = new Float64Array(n * out);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < out; j++) {
        let sum = b === undefined ? 0 : b.data[j];
        for (let l = 0; l < inner; l++) sum += x.data[i * inner + l] * w.data[j * inner + l];
        y[i * out + j] = sum;
      }
    return y;
  },
  gemmAccumulate: (e, [c, a, b], dims) => product(e, a, b, c.data.slice(), dims),
  transpose: (e, [x], dims) => {
    const perm = e.attrs.perm as readonly number[];
    const from = strides(x.dims);
    const to = strides(dims);
    return Float64Array.from(
      { length: x.data.length },
      (_, i) =>
        x.data[perm.reduce((index, axis, j) => index + (Math.floor(i / to[j]) % dims[j]) * from[axis], 0)],
    );
  },
  reshape: (_, [x]) => x.data.slice(),
  slice: (e, [x], dims) => {
    const axis = e.attrs.axis as number;
    return Float64Array.from(
      alongAxis(x.dims, axis, e.attrs.start as number, dims[axis]),
      (from) => x.data[from],
    );
  },
  pad: (e, [x], dims) => place(e, x, dims, e.attrs.before as number, new Float64Array(numElements(dims))),
  sumPrefixes: (_, inputs, dims) => {
    const [size, width] = dims.slice(-2);
    const out = new Float64Array(numElements(dims));
    for (const { data, dims: part } of inputs) {
      const length = part[part.length - 2] * width;
      data.forEach((value, i) => (out[Math.floor(i / length) * size * width + (i % length)] += value));
    }
    return out;
  },
  concat: (e, inputs, dims) => {
    const out = new Float64Array(numElements(dims));
    let start = 0;
    for (const x of inputs) {
      place(e, x, dims, start, out);
      start += x.dims[e.attrs.axis as number];
    }
    return out;
  },
  expand: (_, [x], dims) => {
    const at = broadcastIndex(dims, x.dims);
    return Float64Array.from({ length: numElements(dims) }, (_unused, i) => x.data[at(i)]);
  },
  reduceSum: (e, [x]) => reduce(e, x).sums,
  reduceMean: (e, [x]) => {
    const { sums, count } = reduce(e, x);
    return sums.map((s) => s / count);
  },
  rotary: (e, [positions], dims) => {
    const width = dims[dims.length - 1];
    const wave = e.attrs.wave === "cos" ? Math.cos : Math.sin;
    const frequencies = e.attrs.frequencies as readonly number[];
    return Float64Array.from({ length: positions.data.length * width }, (_, at) =>
      wave(positions.data[Math.floor(at / width)] * frequencies[at % width]),
    );
  },
  causalBias: (e, [queries, keys], [, K]) => {
    const window = (e.attrs.window as number | undefined) ?? Infinity;
    return Float64Array.from({ length: queries.data.length * K }, (_, at) => {
      const distance = queries.data[Math.floor(at / K)] - keys.data[at % K];
      return distance < 0 || distance >= window ? -1e9 : 0;
    });
  },
  documentBias: (e, [starts], [, , , K]) =>
    Float64Array.from(
      { length: starts.data.length * K },
      (_, at) =>
        2 ** 30 * Math.min(0, (e.attrs.first as number) + (at % K) - starts.data[Math.floor(at / K)]),
    ),
  gatherRows: (_, [x, rows], dims) =>
    Float64Array.from(
      { length: numElements(dims) },
      (_unused, i) => x.data[rows.data[Math.floor(i / dims[1])] * dims[1] + (i % dims[1])],
    ),
  cachedAttention(e, [q, key, value, keys, values, last], [B, S, width]) {
    const [, G, C, w] = keys.dims;
    const [H, scale] = [e.attrs.heads as number, e.attrs.scale as number];
    const window = (e.attrs.window as number | undefined) ?? Infinity;
    const [allKeys, allValues] = [
      [keys, key],
      [values, value],
    ].map(([before, own]) => withRows(before, own, last));
    const out = new Float64Array(B * S * width);
    for (let b = 0; b < B; b++)
      for (let s = 0; s < S; s++)
        for (let h = 0; h < H; h++) {
          const own = (b * S + s) * width + h * w;
          const head = (b * G + Math.floor((h * G) / H)) * C * w;
          const place = last.data[b] - S + 1 + s;
          const seen = Array.from({ length: place + 1 }, (_, p) => p).filter((p) => place - p < window);
          const product = (p: number): number => {
            let sum = 0;
            for (let i = 0; i < w; i++) sum += q.data[own + i] * allKeys[head + p * w + i];
            return sum;
          };
          const scores = seen.map((p) => scale * product(p));
          const most = Math.max(...scores);
          const weights = scores.map((score) => Math.exp(score - most));
          const total = weights.reduce((a, x) => a + x, 0);
          seen.forEach((p, n) => {
            for (let i = 0; i < w; i++) out[own + i] += (weights[n] / total) * allValues[head + p * w + i];
          });
        }
    return out;
  },
  cacheAfter: (_, [, before, own, last]) => withRows(before, own, last),
  softmax: (_, [x]) => rows(x, softmaxRow),
  softmaxGrad: (_, [p, dp]) => {
    const width = p.dims[p.dims.length - 1];
    return rows(p, (row, r) => {
      const grad = dp.data.subarray(r * width, (r + 1) * width);
      const delta = row.reduce((sum, value, i) => sum + value * grad[i], 0);
      return row.map((value, i) => value * (grad[i] - delta));
    });
  },
  layerNorm: (e, [x, w, b]) =>
    rows(x, (row) => normed(e, centre(row)).normed.map((value, i) => value * w.data[i] + b.data[i])),
  layerNormGrad: (e, [x, w, dy]) => normGrad(e, x, w, dy, centre),
  layerNormScaleGrad: (e, [x, dy]) => normScaleGrad(e, x, dy, centre),
  rmsNorm: (e, [x, w]) => rows(x, (row) => normed(e, row).normed.map((value, i) => value * w.data[i])),
  rmsNormGrad: (e, [x, w, dy]) => normGrad(e, x, w, dy, (row) => row),
  rmsNormScaleGrad: (e, [x, dy]) => normScaleGrad(e, x, dy, (row) => row),
  crossEntropy: (_, [logits, labels]) => {
    const V = logits.dims[1];
    return labels.data.map(
      (label, t) => -Math.log(softmaxRow(logits.data.subarray(t * V, (t + 1) * V))[label]),
    );
  },
  crossEntropyGrad: (_, [logits, labels, dLoss]) =>
    rows(logits, (row, t) =>
      softmaxRow(row).map((p, i) => dLoss.data[t] * (p - (i === labels.data[t] ? 1 : 0))),
    ),
  softCrossEntropy: (_, [logits, targets]) => {
    const V = logits.dims[1];
    return Float64Array.from({ length: logits.dims[0] }, (_unused, t) => {
      const p = softmaxRow(logits.data.subarray(t * V, (t + 1) * V));
      return -p.reduce((sum, value, i) => sum + targets.data[t * V + i] * Math.log(value), 0);
    });
  },
};

type Row = Float64Array;

function average(row: Row): number {
  return row.reduce((a, b) => a + b, 0) / row.length;
}

function centre(row: Row): Row {
  const mean = average(row);
  return row.map((value) => value - mean);
}

/** x̂ = x·r with r = 1/√(mean(x²) + eps) */
function normed(e: Expr, row: Row): { normed: Row; r: number } {
  const r = 1 / Math.sqrt(average(row.map((value) => value * value)) + (e.attrs.eps as number));
  return { normed: row.map((value) => value * r), r };
}

function normGrad(e: Expr, x: Values, w: Values, dy: Values, prepare: (row: Row) => Row): Float64Array {
  return rows(x, (row, t) => {
    const hat = normed(e, prepare(row));
    const g = w.data.map((weight, i) => weight * dy.data[t * row.length + i]);
    const along = average(g.map((value, i) => value * hat.normed[i]));
    return prepare(g).map((value, i) => hat.r * (value - hat.normed[i] * along));
  });
}

function normScaleGrad(e: Expr, x: Values, dy: Values, prepare: (row: Row) => Row): Float64Array {
  const out = new Float64Array(x.dims[x.dims.length - 1]);
  rows(x, (row, t) => {
    normed(e, prepare(row)).normed.forEach((value, i) => (out[i] += value * dy.data[t * row.length + i]));
    return row;
  });
  return out;
}
