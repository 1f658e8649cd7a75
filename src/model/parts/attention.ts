/**
 * Grouped attention: softmax(QKᵀ/√dh + mask)·V over LN(x), where several query heads share a head of keys and values.
 * T = B·S tokens, D width, H query heads, G key/value heads, dh head dimension.
 */
import * as k from "../../kernel/build.js";
import type { Expr, Kernel } from "../../kernel/kernel.js";
import {
  type AttentionFrame,
  type AttentionNames,
  type AttentionPart,
  type AttentionForm,
  type Projection,
  framedAttention,
  framedKernel,
} from "./attention-frame.js";
import { type ParameterInfo, linears, tensor } from "./part.js";
import { type Rope, headRows, rotaryTables } from "./rotary.js";

export interface AttentionShape extends AttentionFrame {
  /** Divides `heads`; each serves as many query heads in a row (grouped-query attention). */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Of the projections to queries, keys and values. */
  readonly bias: boolean;
  /** RMSNorm of queries and of keys before RoPE: of each head, or of the whole projection. */
  readonly queryKeyNorm?: "head" | "projection" | undefined;
  /** Queries, keys and values are clamped to ± this, queries and keys after their norm. */
  readonly clip?: number | undefined;
  /** Rotary positions; without, the rows' positions matter for the mask only. */
  readonly rope?: Rope | undefined;
}

export function attention(shape: AttentionShape, names: AttentionNames): AttentionPart {
  const { width: D, headDim, bias, queryKeyNorm } = shape;
  const [heads, kv] = [shape.heads * headDim, shape.kvHeads * headDim];
  const qkv = linears(
    names.attention,
    [
      ["q_proj", heads, D],
      ["k_proj", kv, D],
      ["v_proj", kv, D],
    ],
    { bias },
  );
  const keyBias = `${names.attention}.k_proj.bias`;
  const isLinear = shape.rope === undefined && queryKeyNorm === undefined && shape.clip === undefined;
  const cancels = (p: ParameterInfo): boolean => p.name === keyBias && isLinear;
  const three = (suffix: string): string[] =>
    ["q", "k", "v"].map((x) => `${names.attention}.${x}_proj.${suffix}`);
  const [qNorm, kNorm] = ["q", "k"].map((x) => `${names.attention}.${x}_norm.weight`);
  const [qWidth, kWidth] = queryKeyNorm === "head" ? [headDim, headDim] : [heads, kv];
  const isNormed = queryKeyNorm !== undefined;
  return framedAttention(shape, names, {
    parameters: [
      ...qkv.map((p) => (cancels(p) ? { ...p, hasNoGradient: true } : p)),
      ...(isNormed ? [tensor(qNorm, [qWidth], "ones"), tensor(kNorm, [kWidth], "ones")] : []),
    ],
    spans: {
      qkv_w: three("weight"),
      ...(bias ? { qkv_b: three("bias") } : {}),
      ...(isNormed ? { q_norm_w: [qNorm], k_norm_w: [kNorm] } : {}),
    },
    project: grouped(shape),
    valueWidth: headDim,
  });
}

/** See `framedKernel`. */
export function attentionKernel(shape: AttentionShape, ...form: AttentionForm): Kernel {
  return framedKernel(shape, grouped(shape), ...form);
}

function grouped(shape: AttentionShape): Projection {
  const { width: D, heads: H, kvHeads: G, headDim: dh, queryKeyNorm, clip, rope } = shape;
  return (u, rows) => {
    const width = (H + 2 * G) * dh;
    const qkv = k.linear(
      u,
      k.parameter("qkv_w", [width, D]),
      shape.bias ? k.parameter("qkv_b", [width]) : undefined,
    );
    const clipped = (x: Expr): Expr => (clip === undefined ? x : k.clamp(x, clip));
    const normed = (x: Expr, name: string | undefined): Expr =>
      name === undefined
        ? x
        : k.rmsNorm(x, k.parameter(name, [x.dims[x.dims.length - 1] as number]), shape.norm.eps);
    const heads = (start: number, count: number, name?: string): Expr => {
      const part = k.slice(qkv, 1, start * dh, (start + count) * dh);
      const whole = queryKeyNorm === "projection" ? normed(part, name) : part;
      const split = rows.split(whole, count);
      return clipped(queryKeyNorm === "head" ? normed(split, name) : split);
    };
    const pairs = rope?.pairs;
    const q = headRows(heads(0, H, "q_norm_w"), rows.sizes, pairs);
    const key = headRows(heads(H, G, "k_norm_w"), rows.sizes, pairs);
    const value = headRows(heads(H + G, G), rows.sizes);
    const scale = 1 / Math.sqrt(dh);
    if (rope === undefined) return { q, key, value, scale };
    const { cos, sin } = rotaryTables(rows.at, dh, rope);
    return { q: k.rope(q, cos, sin), key: k.rope(key, cos, sin), value, scale };
  };
}
