import { apply } from "./apply.js";
import type { Expr } from "./kernel.js";

/** Attention over a cache, which the rows' own keys and values join: com.microsoft GroupQueryAttention. */
export interface CachedAttention {
  /** [B, S, H·w] */
  readonly context: Expr;
  /** The caches with the rows added, in the memory of the caches before; [B, G, C, w]. */
  readonly keys: Expr;
  readonly values: Expr;
}

/**
 * softmax(scale·QKᵀ)·V of S rows of each of B sequences over the rows of a cache and themselves. H query heads share G heads of
 * keys and values, all w wide, a multiple of 8. S is 1 or B is 1.
 * @param last i32 [B]: place in its sequence of each one's last row; its rows are in places last − S + 1 … last
 * @param total i32 [1]: rows of the longest sequence, its new ones included
 * @param cache where `values` may be `keys`: then one memory is both
 */
export function cachedAttention(
  rows: { readonly q: Expr; readonly key: Expr; readonly value: Expr },
  cache: { readonly keys: Expr; readonly values: Expr },
  at: { readonly last: Expr; readonly total: Expr },
  options: { readonly heads: number; readonly scale: number; readonly window?: number | undefined },
): CachedAttention {
  const { heads, scale, window } = options;
  const context = apply(
    "cachedAttention",
    [rows.q, rows.key, rows.value, cache.keys, cache.values, at.last, at.total],
    window === undefined ? { heads, scale } : { heads, scale, window },
  );
  const after = (of: "keys" | "values", before: Expr, own: Expr): Expr =>
    apply("cacheAfter", [context, before, own, at.last], { of });
  return {
    context,
    keys: after("keys", cache.keys, rows.key),
    values: after("values", cache.values, rows.value),
  };
}
