import type { ParameterInfo } from "./part.js";

/** Where a model looks tokens and positions up. */
export interface Embedding {
  readonly width: number;
  readonly table: string;
  /** Learned vectors per position, where there are any. */
  readonly positions?: string;
  readonly parameters: readonly ParameterInfo[];
}

export function embedding(
  shape: { readonly vocabulary: number; readonly width: number; readonly positions?: number },
  names: { readonly table: string; readonly positions: string },
): Embedding {
  const { vocabulary, width, positions } = shape;
  const matrix = (name: string, rows: number): ParameterInfo => ({
    name,
    family: name,
    dims: [rows, width],
    init: "normal",
  });
  return {
    width,
    table: names.table,
    positions: positions === undefined ? undefined : names.positions,
    parameters: [
      matrix(names.table, vocabulary),
      ...(positions === undefined ? [] : [matrix(names.positions, positions)]),
    ],
  };
}
