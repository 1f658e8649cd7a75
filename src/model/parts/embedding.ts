import { type ParameterInfo, tensor } from "./part.js";

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
  return {
    width,
    table: names.table,
    positions: positions === undefined ? undefined : names.positions,
    parameters: [
      tensor(names.table, [vocabulary, width], "normal"),
      ...(positions === undefined ? [] : [tensor(names.positions, [positions, width], "normal")]),
    ],
  };
}
