/**
 * Latent attention: keys and values of all heads come from one compressed vector per token, queries (where wanted) from
 * another. A key is [a part without position, of the head's own | a part with RoPE, the same for all heads].
 * T = B·S tokens, D width, H heads, dn and dr widths of the two parts of a key, dv of a value.
 */
import * as k from "../../kernel/build.js";
import type { Dim, Expr, Kernel } from "../../kernel/kernel.js";
import {
  type AttentionFrame,
  type AttentionNames,
  type AttentionPart,
  type AttentionReach,
  type AttentionRows,
  type Projected,
  type Projection,
  framedAttention,
  framedKernel,
} from "./attention-frame.js";
import { type ParameterInfo, type Spans, linears, tensor } from "./part.js";
import { type Rope, headRows, latentScoreFactor, rotaryTables } from "./rotary.js";

export interface LatentAttentionShape extends AttentionFrame {
  /** Width of the queries' compressed vector; undefined: queries are projected from the rows. */
  readonly qRank?: number | undefined;
  /** Width of the compressed vector of keys and values. */
  readonly kvRank: number;
  readonly plainDim: number;
  readonly ropeDim: number;
  readonly valueDim: number;
  /** Of the projections to the compressed vectors and the rope key. */
  readonly bias: boolean;
  /** Queries × √(D / qRank), the normed vector of keys and values × √(D / kvRank). */
  readonly scaled: boolean;
  readonly rope: Rope;
}

/** Of the compressed vectors' norms, whatever the model's other norms have. */
const NORM_EPS = 1e-6;

/** Kernel parameter → [tensor's name behind that of the attention, dims]. */
type Matrices = Readonly<Record<string, readonly [name: string, out: number, inn: number]>>;

function matricesOf(shape: LatentAttentionShape): { read: Matrices; expand: Matrices } {
  const { width: D, heads: H, qRank, kvRank, plainDim, ropeDim, valueDim } = shape;
  const queries = H * (plainDim + ropeDim);
  const read = { kv_a: ["kv_a_proj_with_mqa", kvRank + ropeDim, D] } as const;
  const expand = { kv_b: ["kv_b_proj", H * (plainDim + valueDim), kvRank] } as const;
  return qRank === undefined
    ? { read, expand: { q: ["q_proj", queries, D], ...expand } }
    : {
        read: { q_a: ["q_a_proj", qRank, D], ...read },
        expand: { q_b: ["q_b_proj", queries, qRank], ...expand },
      };
}

export function latentAttention(shape: LatentAttentionShape, names: AttentionNames): AttentionPart {
  const { read, expand } = matricesOf(shape);
  const parameters: ParameterInfo[] = [];
  const spans: Record<string, Spans[string]> = {};
  for (const [matrices, bias] of [
    [read, shape.bias],
    [expand, false],
  ] as const)
    for (const [key, matrix] of Object.entries(matrices)) {
      parameters.push(...linears(names.attention, [matrix], { bias }));
      spans[`${key}_w`] = [`${names.attention}.${matrix[0]}.weight`];
      if (bias) spans[`${key}_b`] = [`${names.attention}.${matrix[0]}.bias`];
    }
  for (const [key, rank] of [
    ["q_a", shape.qRank],
    ["kv_a", shape.kvRank],
  ] as const) {
    if (rank === undefined) continue;
    const name = `${names.attention}.${key}_layernorm.weight`;
    parameters.push(tensor(name, [rank], "ones"));
    spans[`${key}_norm_w`] = [name];
  }
  return framedAttention(shape, names, {
    parameters,
    spans,
    project: latent(shape),
    valueWidth: shape.valueDim,
  });
}

/** See `framedKernel`. A cache holds, for all heads together, [the normed compressed vector | the rope key (rotated)]. */
export function latentAttentionKernel(
  shape: LatentAttentionShape,
  sequence: Dim,
  reach?: AttentionReach,
): Kernel {
  return framedKernel(shape, latent(shape), sequence, reach);
}

function latent(shape: LatentAttentionShape): Projection {
  const { width: D, heads: H, qRank, kvRank, plainDim: dn, ropeDim: dr } = shape;
  const { read, expand } = matricesOf(shape);
  const project = (x: Expr, key: string, bias: boolean): Expr => {
    const [, out, inn] = { ...read, ...expand }[key];
    return k.linear(
      x,
      k.parameter(`${key}_w`, [out, inn]),
      bias ? k.parameter(`${key}_b`, [out]) : undefined,
    );
  };
  const normed = (x: Expr, key: string): Expr =>
    k.rmsNorm(x, k.parameter(`${key}_norm_w`, [x.dims[1] as number]), NORM_EPS);
  const scale =
    ((shape.scaled ? Math.sqrt(D / (qRank ?? D)) : 1) * latentScoreFactor(shape.rope)) / Math.sqrt(dn + dr);
  return (u, rows) => {
    const { cos, sin } = rotaryTables(rows.at, dr, shape.rope);
    const turned = (x: Expr): Expr => k.rope(headRows(x, rows.sizes, shape.rope.pairs), cos, sin);
    const queries =
      qRank === undefined
        ? project(u, "q", false)
        : project(normed(project(u, "q_a", shape.bias), "q_a"), "q_b", false);
    const split = rows.split(queries, H);
    const qPlain = k.slice(split, 3, 0, dn);
    const qRope = turned(k.slice(split, 3, dn, dn + dr));
    const compressed = project(u, "kv_a", shape.bias);
    const plainLatent = normed(k.slice(compressed, 1, 0, kvRank), "kv_a");
    const kv = shape.scaled ? k.mul(plainLatent, k.scalar(Math.sqrt(D / kvRank))) : plainLatent;
    const keyRope = turned(rows.split(k.slice(compressed, 1, kvRank, kvRank + dr), 1));
    const given: Given = { qPlain, qRope, kv, keyRope };
    return { scale, ...(rows.isCached ? absorbed(shape, given, rows) : expanded(shape, given, rows)) };
  };
}

/** qPlain [B, S, H, dn], qRope [B, H, S, dr], compressed vectors [T, rank], rope keys [B, 1, S, dr]. */
interface Given {
  readonly qPlain: Expr;
  readonly qRope: Expr;
  readonly kv: Expr;
  readonly keyRope: Expr;
}

const WEIGHT = "kv_b_w";

/** Keys and values of each head. */
function expanded(
  { heads: H, kvRank, plainDim: dn, ropeDim: dr, valueDim: dv }: LatentAttentionShape,
  { qPlain, qRope, kv, keyRope }: Given,
  rows: AttentionRows,
): Omit<Projected, "scale"> {
  const both = rows.split(k.linear(kv, k.parameter(WEIGHT, [H * (dn + dv), kvRank])), H);
  const [B, , S] = keyRope.dims;
  const keyPlain = headRows(k.slice(both, 3, 0, dn), rows.sizes);
  return {
    q: k.concat([headRows(qPlain, rows.sizes), qRope], 3),
    key: k.concat([keyPlain, k.expand(keyRope, [B, H, S, dr])], 3),
    value: headRows(k.slice(both, 3, dn, dn + dv), rows.sizes),
  };
}

/**
 * The same scores and results over the compressed vectors themselves: q·(W_k c) = (q W_k)·c and Σ p W_v c = W_v Σ p c. More
 * work per score, but what came before is never expanded, and is one vector per row whatever the number of heads.
 */
function absorbed(
  { heads: H, kvRank, plainDim: dn, valueDim: dv }: LatentAttentionShape,
  { qPlain, qRope, kv, keyRope }: Given,
  rows: AttentionRows,
): Omit<Projected, "scale"> {
  const weight = k.parameter(WEIGHT, [H * (dn + dv), kvRank]);
  const part = (head: number, from: number, to: number): Expr =>
    k.slice(weight, 0, head * (dn + dv) + from, head * (dn + dv) + to);
  // A product of its own per head: one of all heads, whose weights are not packed, has other bits for one row than for several.
  const perHead = (x: Expr, product: (rows: Expr, head: number) => Expr): Expr => {
    const d = x.dims[3] as number;
    const flat = k.reshape(x, ["T", H * d]);
    const results = Array.from({ length: H }, (_, head) =>
      product(k.slice(flat, 1, head * d, (head + 1) * d), head),
    );
    return k.transpose(rows.split(k.concat(results, 1), H), [0, 2, 1, 3]);
  };
  const q = perHead(qPlain, (x, head) => k.matmul(x, part(head, 0, dn)));
  return {
    q: k.concat([q, qRope], 3),
    key: k.concat([headRows(rows.split(kv, 1), rows.sizes), keyRope], 3),
    value: kvRank,
    after: (context) =>
      perHead(k.transpose(context, [0, 2, 1, 3]), (x, head) => k.linear(x, part(head, dn, dn + dv))),
  };
}
