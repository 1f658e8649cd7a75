/**
 * softmax(scale·QKᵀ + mask)·V. H query heads share G key heads; keys are dk wide, values dv. Three forms: of a sequence whose
 * length is a number, in tiles; of rows at any positions; and of rows that join a cache.
 */
import * as k from "../../kernel/build.js";
import type { Dim, Expr } from "../../kernel/kernel.js";

/** Rows of the scores' right side: [B, G, K, dk], [B, G, K, dv], and the position of each of the K rows, i32 [K]. */
export interface Seen {
  readonly key: Expr;
  readonly value: Expr;
  readonly positions: Expr;
}

export interface Scoring {
  /** Factor of the products of queries and keys. */
  readonly scale: number;
  /** A query sees the `window` most recent keys, itself included; default all up to itself. */
  readonly window?: number | undefined;
}

/**
 * q [B, H, S, dk] over keys of any positions → [B, H, S, dv]. The query heads that share keys are rows of one product: no key
 * is copied.
 * @param positions of the queries, i32 [S]
 */
export function attendAnywhere(q: Expr, positions: Expr, seen: Seen, { scale, window }: Scoring): Expr {
  const [, H, S, dk] = q.dims as [Dim, number, Dim, number];
  const [, G, K] = seen.key.dims as [Dim, number, Dim];
  const sizes = [positions, seen.positions];
  const n = H / G;
  // As a sum, which sizes are worked out of wherever that of S is known.
  const rows = typeof S === "number" ? n * S : Array<string>(n).fill(S).join("+");
  const grouped = n === 1 ? q : k.reshape(q, ["B", G, rows, dk]);
  const scores = k.matmul(grouped, seen.key, { transB: true, alpha: scale });
  const perHead = n === 1 ? scores : k.reshape(scores, ["B", G, n, S, K], ...sizes);
  const probabilities = k.softmax(k.add(perHead, k.causalBias(positions, seen.positions, window)));
  const weights = n === 1 ? probabilities : k.reshape(probabilities, ["B", G, rows, K], ...sizes);
  const context = k.matmul(weights, seen.value);
  return n === 1 ? context : k.reshape(context, ["B", H, S, seen.value.dims[3]], ...sizes);
}

/** Heads of a cache are a multiple of this wide. */
const CACHE_WIDTH = 8;

/** How wide a row of a cache's head is: for keys and values alike, with zeros behind them. */
export function cacheWidth(...widths: readonly number[]): number {
  return Math.ceil(Math.max(...widths) / CACHE_WIDTH) * CACHE_WIDTH;
}

/**
 * Rows of B sequences over what a cache has of each, and themselves: q [B, H, S, dk] → context [B, H, S, dv]. The caches, read as `cache_k`
 * and `cache_v`, are the kernel's own inputs; see `framedKernel`.
 * @param value a number: the values are so many first elements of the keys, and one cache is both
 * @param positions i32 [B, 1, S], which tells the sizes
 */
export function attendCached(
  { q, key, value }: { readonly q: Expr; readonly key: Expr; readonly value: Expr | number },
  { scale, window }: Scoring,
  positions: Expr,
): k.CachedAttention {
  const [B, H, S, dk] = q.dims as [Dim, number, Dim, number];
  const [G, dv] = [key.dims[1] as number, typeof value === "number" ? value : (value.dims[3] as number)];
  const w = cacheWidth(dk, dv);
  const flat = (x: Expr): Expr => {
    const [, heads, , d] = x.dims as [Dim, number, Dim, number];
    const padded = d === w ? x : k.pad(x, 3, 0, w - d);
    return k.reshape(k.transpose(padded, [0, 2, 1, 3]), [B, S, heads * w], positions);
  };
  const cache = (name: string): Expr => k.constantInput(name, [B, G, "C", w]);
  const keys = cache("cache_k");
  const own = flat(key);
  const attended = k.cachedAttention(
    { q: flat(q), key: own, value: typeof value === "number" ? own : flat(value) },
    { keys, values: typeof value === "number" ? keys : cache("cache_v") },
    { last: k.input("last", [B], "i32"), total: k.input("total", [1], "i32") },
    { heads: H, scale, window },
  );
  const split = k.reshape(attended.context, [B, S, H, w], positions);
  return { ...attended, context: k.slice(k.transpose(split, [0, 2, 1, 3]), 3, 0, dv) };
}

/**
 * Rows of the score matrix are computed in tiles; later tiles see more keys, none sees keys that are masked out for
 * all of it. Smaller tiles save work, but products of few rows run slowly and every tile costs operators.
 */
const MIN_TILE_ROWS = 64;
const MAX_TILES = 8;

/**
 * Rows [0, S) over keys [0, S): q [B, H, S, dk], key [B, G, S, dk], value [B, G, S, dv] → [B, H, S, dv].
 * @param starts where in its sequence each row's document begins, i32 [B, S]: no row sees what is before
 */
export function attendTiled(
  q: Expr,
  seen: Omit<Seen, "positions">,
  { scale, window, starts }: Scoring & { readonly starts?: Expr | undefined },
): Expr {
  const [, H, S] = q.dims as [Dim, number, number];
  const G = seen.key.dims[1] as number;
  const [key, value] = [seen.key, seen.value].map((x) => (G < H ? repeatHeads(x, H / G) : x));
  const reach = window ?? S;
  const rows = Math.min(S, Math.max(1, Math.ceil(S / MAX_TILES / MIN_TILE_ROWS)) * MIN_TILE_ROWS);
  const tiles: Expr[] = [];
  for (let start = 0; start < S; start += rows) {
    const end = Math.min(S, start + rows);
    const first = Math.max(0, start - reach + 1);
    const scores = k.matmul(k.slice(q, 2, start, end), k.slice(key, 2, first, end), {
      transB: true,
      alpha: scale,
    });
    const causal = causalMask([start, end], [first, end], reach);
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

/** [B, G, S, d] → [B, G·n, S, d], each head n times in a row. */
function repeatHeads(x: Expr, n: number): Expr {
  const [B, G, S, d] = x.dims as [Dim, number, number, number];
  return k.reshape(k.expand(k.reshape(x, [B, G, 1, S, d]), [B, G, n, S, d]), [B, G * n, S, d]);
}
