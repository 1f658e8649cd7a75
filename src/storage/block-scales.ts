/** Weights of one byte each come with a scale per block: a grid that starts at the first row and column and is cut off at the last. */

/** A matrix' scales [⌈rows / blockRows⌉, ⌈columns / blockColumns⌉]. */
export interface BlockScales {
  readonly scales: Float32Array;
  readonly blockRows: number;
  readonly blockColumns: number;
  /** Of the matrix, not of the grid. */
  readonly columns: number;
}

/** Rows and columns of the grid of a matrix. */
export function scaleGrid(
  [rows, columns]: readonly [number, number],
  [blockRows, blockColumns]: readonly [number, number],
): [number, number] {
  return [Math.ceil(rows / blockRows), Math.ceil(columns / blockColumns)];
}

/**
 * Multiplies whole rows of a matrix by the scales of their blocks, in place: stored × scale in f32.
 * @param values rows [firstRow, firstRow + values.length / columns) of the matrix
 */
export function applyBlockScales(values: Float32Array, firstRow: number, of: BlockScales): void {
  const { scales, blockRows, blockColumns, columns } = of;
  const perRow = Math.ceil(columns / blockColumns);
  for (let at = 0, row = firstRow; at < values.length; at += columns, row++) {
    const first = Math.floor(row / blockRows) * perRow;
    for (let block = 0; block < perRow; block++) {
      const scale = scales[first + block];
      const end = at + Math.min(columns, (block + 1) * blockColumns);
      for (let i = at + block * blockColumns; i < end; i++) values[i] *= scale;
    }
  }
}
