/** What rows of a cache cost. Pure: also asked before there is a cache. */

/** What one layer keeps of a token. */
export interface CacheLayer {
  readonly heads: number;
  /** Elements of a head's row. */
  readonly width: number;
  /** 2: keys and values; 1: one compressed vector, of which both are made. */
  readonly tensors: 1 | 2;
}

/** Bytes that one row of a slot takes, of all layers. */
export function rowBytes(layers: readonly CacheLayer[]): number {
  return layers.reduce((bytes, { heads, width, tensors }) => bytes + tensors * heads * width * 4, 0);
}

/**
 * Rows that fill whole pages in every head of every layer: memory is taken by the page, so a sequence costs as many rows as
 * the next multiple of it. A power of two.
 * @param page bytes of a page, a power of two
 */
export function granuleRows(layers: readonly CacheLayer[], page: number): number {
  return layers.reduce((rows, { width }) => {
    let perPage = page;
    while (perPage > 1 && (width * 4 * perPage) % (2 * page) === 0) perPage /= 2;
    return Math.max(rows, perPage);
  }, 1);
}

/** Rows, whole granules of them, that a budget holds. */
export function budgetRows(layers: readonly CacheLayer[], page: number, budgetBytes: number): number {
  const granule = granuleRows(layers, page);
  return Math.floor(budgetBytes / (rowBytes(layers) * granule)) * granule;
}
