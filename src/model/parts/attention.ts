/**
 * Causal self-attention with its norm and residual: y = x + O·softmax(QKᵀ/√dh + mask)·V over LN(x).
 * T = B·S tokens, D width, H query heads, G key/value heads, dh head dimension.
 */
import { assert } from "../../core/errors.js";
import * as k from "../../kernel/build.js";
import type { Dim, Expr, Kernel } from "../../kernel/kernel.js";
import { rotaryFrequency } from "../../kernel/rotary.js";
import { type NormShape, norm, normParameters, normSpans } from "./norm.js";
import { type ParameterInfo, type Part, linears } from "./part.js";
import { type Residual, withResidual } from "./residual.js";

export interface AttentionShape {
  readonly width: number;
  readonly heads: number;
  /** Divides `heads`; each serves as many query heads in a row (grouped-query attention). */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Of the projections to queries, keys and values. */
  readonly bias: boolean;
  /** Of the projection back. */
  readonly outBias: boolean;
  readonly norm: NormShape;
  /** Rotary positions; without, the rows' positions matter for the mask only. */
  readonly rope?: { readonly theta: number };
  /** A query sees the `window` most recent keys, itself included; default all up to itself. */
  readonly window?: number;
}

/** What rows see beside the rows of their sequence up to themselves, and what they do not. */
export interface AttentionReach {
  /** Keys and values of `past` earlier rows of each sequence: a cache. */
  readonly past?: Dim;
  /** No row sees another document. */
  readonly documents?: boolean;
}

/** What an attention kernel is built for: the rows' length, what they see, and whether it adds what it computes to what it reads. */
export type AttentionForm = [sequence: Dim, reach?: AttentionReach, residual?: Residual];

/** Where a block's attention and its norm are stored. */
export interface AttentionNames {
  readonly attention: string;
  readonly norm: string;
}

export function attention(shape: AttentionShape, names: AttentionNames): Part<AttentionForm> {
  const { width: D, headDim, bias, outBias } = shape;
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
  const cancels = (p: ParameterInfo): boolean => p.name === keyBias && shape.rope === undefined;
  const three = (suffix: string): string[] =>
    ["q", "k", "v"].map((x) => `${names.attention}.${x}_proj.${suffix}`);
  return {
    class: "attention",
    shape,
    parameters: [
      ...normParameters(names.norm, shape.norm),
      ...qkv.map((p) => (cancels(p) ? { ...p, hasNoGradient: true } : p)),
      ...linears(names.attention, [["o_proj", D, heads]], { bias: outBias }),
    ],
    spans: {
      ...normSpans(names.norm, shape.norm),
      qkv_w: three("weight"),
      ...(bias ? { qkv_b: three("bias") } : {}),
      o_w: [`${names.attention}.o_proj.weight`],
      ...(outBias ? { o_b: [`${names.attention}.o_proj.bias`] } : {}),
    },
    kernel: (...form) => attentionKernel(shape, ...form),
  };
}

/**
 * Rows of the score matrix are computed in tiles; later tiles see more keys, none sees keys that are masked out for
 * all of it. Smaller tiles save work, but products of few rows run slowly and every tile costs operators.
 */
const MIN_TILE_ROWS = 64;
const MAX_TILES = 8;

/**
 * With a number as `sequence` and no cache: x [T, D] → y, masks and rotary tables are constants of positions 0, 1, …, S − 1;
 * with `documents` it reads `starts` [B, S] too, where in its sequence each row's document begins. (Rotary scores depend on
 * distances only, so positions need not restart there.) Otherwise one kernel for any length: it reads the rows' `positions` [S] too, the same for all B sequences. With a
 * cache it reads `past_k` and `past_v` [B, G, P, dh] at `past_positions` [P], P ≥ 0, and gives the keys (rotated) and values
 * of its own rows as `k` and `v` [B, G, S, dh].
 */
export function attentionKernel(
  shape: AttentionShape,
  ...[sequence, reach = {}, residual]: AttentionForm
): Kernel {
  const { width: D, heads: H, kvHeads: G, headDim: dh, rope } = shape;
  const { past: P, documents = false } = reach;
  const isFixed = typeof sequence === "number" && P === undefined;
  assert(isFixed || !documents, "attention that tells documents apart has a fixed length and no cache");
  const x = k.input("x", ["T", D]);
  const positions = k.input("positions", [sequence], "i32");
  const sizes = isFixed ? [] : [positions];
  const qkvWidth = (H + 2 * G) * dh;
  const qkv = k.linear(
    norm(shape.norm, x),
    k.parameter("qkv_w", [qkvWidth, D]),
    shape.bias ? k.parameter("qkv_b", [qkvWidth]) : undefined,
  );
  const heads = (start: number, count: number): Expr => {
    const part = k.slice(qkv, 1, start * dh, (start + count) * dh);
    return k.transpose(k.reshape(part, ["B", sequence, count, dh], ...sizes), [0, 2, 1, 3]);
  };
  let q = heads(0, H);
  let key = heads(H, G);
  const value = heads(H + G, G);
  if (rope !== undefined) {
    const [cos, sin] = (["cos", "sin"] as const).map((wave) =>
      isFixed ? rotaryTable(sequence, dh, rope.theta, wave) : k.rotary(positions, dh, rope.theta, wave),
    );
    q = k.rope(q, cos, sin);
    key = k.rope(key, cos, sin);
  }
  let context: Expr;
  if (isFixed) {
    const repeated = [key, value].map((kv) => (G < H ? repeatHeads(kv, H / G) : kv));
    const starts = documents ? k.input("starts", ["B", sequence], "i32") : undefined;
    context = tiledAttention(q, repeated[0], repeated[1], { S: sequence, dh, window: shape.window, starts });
  } else {
    const past = P === undefined ? undefined : pastOf(shape, P);
    const seen = {
      key: past ? k.concat([past.key, key], 2) : key,
      value: past ? k.concat([past.value, value], 2) : value,
      positions: past ? k.concat([past.positions, positions], 0) : positions,
    };
    context = groupedAttention(shape, q, positions, seen);
  }
  const merged = k.reshape(k.transpose(context, [0, 2, 1, 3]), ["T", H * dh], ...sizes);
  const out = k.linear(
    merged,
    k.parameter("o_w", [D, H * dh]),
    shape.outBias ? k.parameter("o_b", [D]) : undefined,
  );
  const y = withResidual(x, out, residual);
  return k.kernel("attention", P === undefined ? { y } : { y, k: key, v: value });
}

/** [B, G, K, dh] and the position of each of the K rows. */
interface Seen {
  readonly key: Expr;
  readonly value: Expr;
  readonly positions: Expr;
}

function pastOf({ kvHeads: G, headDim: dh }: AttentionShape, P: Dim): Seen {
  return {
    key: k.input("past_k", ["B", G, P, dh]),
    value: k.input("past_v", ["B", G, P, dh]),
    positions: k.input("past_positions", [P], "i32"),
  };
}

/** q [B, H, S, dh] over keys of any positions. The query heads that share keys are rows of one product: no key is copied. */
function groupedAttention(
  { heads: H, kvHeads: G, headDim: dh, window }: AttentionShape,
  q: Expr,
  positions: Expr,
  seen: Seen,
): Expr {
  const [S, K] = [q.dims[2], seen.key.dims[2]];
  const sizes = [positions, seen.positions];
  const n = H / G;
  const rows = typeof S === "number" ? n * S : "group rows";
  const grouped = n === 1 ? q : k.reshape(q, ["B", G, rows, dh]);
  const scores = k.matmul(grouped, seen.key, { transB: true, alpha: 1 / Math.sqrt(dh) });
  const perHead = n === 1 ? scores : k.reshape(scores, ["B", G, n, S, K], ...sizes);
  const probabilities = k.softmax(k.add(perHead, k.causalBias(positions, seen.positions, window)));
  const weights = n === 1 ? probabilities : k.reshape(probabilities, ["B", G, rows, K], ...sizes);
  const context = k.matmul(weights, seen.value);
  return n === 1 ? context : k.reshape(context, ["B", H, S, dh], ...sizes);
}

interface Tiling {
  readonly S: number;
  readonly dh: number;
  readonly window?: number | undefined;
  /** Where each row's document begins, [B, S]. */
  readonly starts?: Expr | undefined;
}

/** Rows [0, S) over keys [0, S), all [B, H, S, dh]. */
function tiledAttention(q: Expr, key: Expr, value: Expr, { S, dh, window = S, starts }: Tiling): Expr {
  const rows = Math.min(S, Math.max(1, Math.ceil(S / MAX_TILES / MIN_TILE_ROWS)) * MIN_TILE_ROWS);
  const tiles: Expr[] = [];
  for (let start = 0; start < S; start += rows) {
    const end = Math.min(S, start + rows);
    const first = Math.max(0, start - window + 1);
    const scores = k.matmul(k.slice(q, 2, start, end), k.slice(key, 2, first, end), {
      transB: true,
      alpha: 1 / Math.sqrt(dh),
    });
    const causal = causalMask([start, end], [first, end], window);
    const mask = starts ? k.add(causal, k.documentBias(k.slice(starts, 1, start, end), first, end)) : causal;
    const probabilities = k.softmax(k.add(scores, mask));
    tiles.push(k.matmul(probabilities, k.slice(value, 2, first, end)));
  }
  return k.concat(tiles, 2);
}

/** Added to the scores of query rows over keys, both [start, end) of the sequence. */
function causalMask(rows: readonly [number, number], keys: readonly [number, number], window: number): Expr {
  const [numRows, numKeys] = [rows[1] - rows[0], keys[1] - keys[0]];
  const mask = new Float32Array(numRows * numKeys);
  for (let r = 0; r < numRows; r++) {
    const last = rows[0] + r - keys[0];
    mask.fill(-1e9, r * numKeys, r * numKeys + Math.max(0, last - window + 1));
    mask.fill(-1e9, r * numKeys + last + 1, (r + 1) * numKeys);
  }
  return k.constant(mask, [numRows, numKeys]);
}

/** [B, G, S, dh] → [B, G·n, S, dh], each head n times in a row. */
function repeatHeads(x: Expr, n: number): Expr {
  const [B, G, S, dh] = x.dims as [Dim, number, number, number];
  return k.reshape(k.expand(k.reshape(x, [B, G, 1, S, dh]), [B, G, n, S, dh]), [B, G * n, S, dh]);
}

/** cos or sin of position × frequency, [S, dh]. */
function rotaryTable(S: number, dh: number, theta: number, wave: "cos" | "sin"): Expr {
  const table = Float32Array.from({ length: S * dh }, (_, at) =>
    Math[wave](Math.floor(at / dh) * rotaryFrequency(at % dh, dh, theta)),
  );
  return k.constant(table, [S, dh]);
}
