/**
 * Attention as its definition reads: loops over rows, heads and earlier rows, plain numbers, no tiles, no masks, no tables. Reads
 * the kernel's parameters under their names.
 */
import type { AttentionShape } from "../../src/model/parts/attention.js";
import type { LatentAttentionShape } from "../../src/model/parts/latent-attention.js";
import type { Rope } from "../../src/model/parts/rotary.js";

type Row = readonly number[];
export type Weights = Readonly<Record<string, { readonly data: ArrayLike<number> }>>;

const sum = (row: Row): number => row.reduce((a, b) => a + b, 0);
const dot = (a: Row, b: Row): number => sum(a.map((value, i) => value * b[i]));
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

function rmsNorm(row: Row, weight: Row, eps: number): Row {
  const size = Math.sqrt(dot(row, row) / row.length + eps);
  return row.map((value, i) => (value / size) * weight[i]);
}

/** Reads weights; absent ones are undefined. */
function reader(weights: Weights) {
  const list = (name: string): Row => Array.from(weights[name].data);
  const apply = (name: string, x: Row): Row => {
    const w = list(`${name}_w`);
    const bias = weights[`${name}_b`] === undefined ? undefined : list(`${name}_b`);
    return Array.from({ length: w.length / x.length }, (_, out) => {
      const product = dot(x, w.slice(out * x.length, (out + 1) * x.length));
      return product + (bias?.[out] ?? 0);
    });
  };
  return { list, apply };
}

/** Radians per position, and the factor of cos and sin. */
function angles(width: number, rope: Rope): { speeds: number[]; factor: number } {
  const scaling = rope.scaling;
  const speed = (i: number): number => 1 / rope.theta ** ((2 * i) / width);
  const pairs = Array.from({ length: width / 2 }, (_, i) => i);
  if (scaling === undefined) return { speeds: pairs.map(speed), factor: 1 };
  const { factor, original_max_position_embeddings: original } = scaling;
  if (scaling.rope_type === "llama3") {
    const [longest, shortest] = [original / scaling.low_freq_factor, original / scaling.high_freq_factor];
    const speeds = pairs.map((i) => {
      const wavelength = (2 * Math.PI) / speed(i);
      if (wavelength < shortest) return speed(i);
      if (wavelength > longest) return speed(i) / factor;
      const smooth =
        (original / wavelength - scaling.low_freq_factor) /
        (scaling.high_freq_factor - scaling.low_freq_factor);
      return (1 - smooth) * (speed(i) / factor) + smooth * speed(i);
    });
    return { speeds, factor: 1 };
  }
  // The (fractional) pair that turns so many times over the original length: original·θ^(−2i/width) = 2π·turns.
  const pairOf = (turns: number): number =>
    (width / 2) * (Math.log(original / (2 * Math.PI * turns)) / Math.log(rope.theta));
  const [fast, slow] = [pairOf(scaling.beta_fast), pairOf(scaling.beta_slow)];
  const low = Math.max(scaling.truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(scaling.truncate ? Math.ceil(slow) : slow, width - 1);
  const speeds = pairs.map((i) => {
    const stretched = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return speed(i) * (1 - stretched) + (speed(i) / factor) * stretched;
  });
  const g = (m: number): number => 0.1 * m * Math.log(factor) + 1;
  const { mscale, mscale_all_dim: all, attention_factor: given } = scaling;
  return { speeds, factor: given ?? (mscale && all ? g(mscale) / g(all) : g(1)) };
}

function turned(x: Row, position: number, rope: Rope | undefined): Row {
  if (rope === undefined) return x;
  const { speeds, factor } = angles(x.length, rope);
  const y = [...x];
  speeds.forEach((speed, i) => {
    const [first, second] = rope.pairs === "neighbours" ? [2 * i, 2 * i + 1] : [i, i + x.length / 2];
    const [cos, sin] = [factor * Math.cos(position * speed), factor * Math.sin(position * speed)];
    y[first] = x[first] * cos - x[second] * sin;
    y[second] = x[first] * sin + x[second] * cos;
  });
  return y;
}

/** What a row's heads ask, and what they show to later rows. */
interface Heads {
  readonly q: readonly Row[];
  readonly key: readonly Row[];
  readonly value: readonly Row[];
}

function groupedHeads(shape: AttentionShape, weights: Weights, u: Row, position: number): Heads {
  const { heads: H, kvHeads: G, headDim: dh, queryKeyNorm, clip = Infinity, norm, rope } = shape;
  const { list, apply } = reader(weights);
  const all = apply("qkv", u);
  const bounded = (x: Row): Row => x.map((value) => Math.min(Math.max(value, -clip), clip));
  const heads = (from: number, count: number, name?: string): Row[] => {
    let part: Row = all.slice(from * dh, (from + count) * dh);
    if (name !== undefined && queryKeyNorm === "projection") part = rmsNorm(part, list(name), norm.eps);
    return Array.from({ length: count }, (_, h) => {
      const head = part.slice(h * dh, (h + 1) * dh);
      const isNormed = name !== undefined && queryKeyNorm === "head";
      return bounded(isNormed ? rmsNorm(head, list(name), norm.eps) : head);
    });
  };
  const shared = (rows: Row[]): Row[] => Array.from({ length: H }, (_, h) => rows[Math.floor((h * G) / H)]);
  return {
    q: heads(0, H, "q_norm_w").map((x) => turned(x, position, rope)),
    key: shared(heads(H, G, "k_norm_w").map((x) => turned(x, position, rope))),
    value: shared(heads(H + G, G)),
  };
}

function latentHeads(shape: LatentAttentionShape, weights: Weights, u: Row, position: number): Heads {
  const { width: D, heads: H, qRank, kvRank, plainDim: dn, ropeDim: dr, valueDim: dv, rope } = shape;
  const { list, apply } = reader(weights);
  let q =
    qRank === undefined ? apply("q", u) : apply("q_b", rmsNorm(apply("q_a", u), list("q_a_norm_w"), 1e-6));
  if (shape.scaled && qRank !== undefined) q = q.map((value) => value * Math.sqrt(D / qRank));
  const compressed = apply("kv_a", u);
  let kv = rmsNorm(compressed.slice(0, kvRank), list("kv_a_norm_w"), 1e-6);
  if (shape.scaled) kv = kv.map((value) => value * Math.sqrt(D / kvRank));
  const keyRope = turned(compressed.slice(kvRank), position, rope);
  const both = apply("kv_b", kv);
  const index = Array.from({ length: H }, (_, h) => h);
  return {
    q: index.map((h) => {
      const head = q.slice(h * (dn + dr), (h + 1) * (dn + dr));
      return [...head.slice(0, dn), ...turned(head.slice(dn), position, rope)];
    }),
    key: index.map((h) => [...both.slice(h * (dn + dv), h * (dn + dv) + dn), ...keyRope]),
    value: index.map((h) => both.slice(h * (dn + dv) + dn, (h + 1) * (dn + dv))),
  };
}

/** The scale of scores beside 1/√(width of a key). */
function besides(shape: AttentionShape | LatentAttentionShape): number {
  const scaling = shape.rope?.scaling;
  if (!("kvRank" in shape) || scaling?.rope_type !== "yarn" || !scaling.mscale_all_dim) return 1;
  return (0.1 * scaling.mscale_all_dim * Math.log(scaling.factor) + 1) ** 2;
}

/** @param x rows of one sequence, RMSNorm in front; → y, row by row */
export function referenceAttention(
  shape: AttentionShape | LatentAttentionShape,
  weights: Weights,
  x: readonly Row[],
): Row[] {
  const { list, apply } = reader(weights);
  const read = x.map((row) => rmsNorm(row, list("ln_w"), shape.norm.eps));
  const rows = read.map((u, s) =>
    "kvRank" in shape ? latentHeads(shape, weights, u, s) : groupedHeads(shape, weights, u, s),
  );
  return x.map((row, s) => {
    const results = rows[s].q.flatMap((q, h) => {
      const seen = rows.slice(Math.max(0, s + 1 - (shape.window ?? Infinity)), s + 1);
      const scores = seen.map(({ key }) => Math.exp((besides(shape) * dot(q, key[h])) / Math.sqrt(q.length)));
      return seen[0].value[h].map(
        (_, i) =>
          dot(
            scores,
            seen.map(({ value }) => value[h][i]),
          ) / sum(scores),
      );
    });
    const opened = shape.gate ? apply("gate", read[s]).map((g, i) => sigmoid(g) * results[i]) : results;
    return apply("o", opened).map((value, i) => row[i] + value);
  });
}
