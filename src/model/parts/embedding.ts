import { type ParameterInfo, tensor } from "./part.js";

/** Where a model looks tokens and positions up. */
export interface Embedding {
  readonly width: number;
  readonly table: string;
  /** Learned vectors per position, where there are any. */
  readonly positions?: string;
  /** A token whose vector gets no gradient. */
  readonly padding?: number | undefined;
  readonly parameters: readonly ParameterInfo[];
}

export function embedding(
  shape: {
    readonly vocabulary: number;
    readonly width: number;
    readonly positions?: number;
    readonly padding?: number | undefined;
  },
  names: { readonly table: string; readonly positions: string },
): Embedding {
  const { vocabulary, width, positions, padding } = shape;
  return {
    width,
    table: names.table,
    positions: positions === undefined ? undefined : names.positions,
    padding,
    parameters: [
      tensor(names.table, [vocabulary, width], "normal"),
      ...(positions === undefined ? [] : [tensor(names.positions, [positions, width], "normal")]),
    ],
  };
}
