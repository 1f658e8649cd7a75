/**
 * Where the tensors of our models lie in published files. Read one way a table says what to look for, the other way what an
 * export writes.
 */

/** A tensor of a file, or a part of one. */
export interface Stored {
  readonly name: string;
  /**
   * Of experts stored as one tensor [experts, rows, columns]: whose part, and which rows of it: those from `part` of `parts`
   * equal ones (gate and up are one matrix). Such a part lies in one piece.
   */
  readonly slice?: { readonly expert: number; readonly part: number; readonly parts: number };
}

/** Of a block's tensors ("mlp.gate.weight"; "{e}" where an expert's index stands) the published name. */
export type Renamed = Readonly<Record<string, string>>;

export interface TensorNames {
  /** Tensors that are called something else than here. */
  readonly names: Renamed;
  /** The same of other ways of writing, tried after `names`. */
  readonly others?: Renamed;
  /** Prefix of experts that are stored as one tensor each of `gate_up_proj` and `down_proj`; none where a family has none. */
  readonly fused?: string;
  /** The published layers of which each is several blocks here: index of the block in its layer stands for "{j}". */
  readonly blocksPerLayer?: number;
}

const BLOCK = /^model\.layers\.(\d+)\.(.+)$/;
const EXPERT = /^(.*\.experts\.)(\d+)(\..+)$/;

/**
 * Where a tensor may lie, most usual first: that is how an export writes it.
 * @param name ours
 */
export function placesOf(tensors: TensorNames, name: string): Stored[] {
  const block = BLOCK.exec(name);
  if (block === null) return [{ name }];
  const { blocksPerLayer: per = 1, fused } = tensors;
  const index = Number(block[1]);
  const expert = EXPERT.exec(block[2]);
  const pattern = expert === null ? block[2] : `${expert[1]}{e}${expert[3]}`;
  const layer = `model.layers.${Math.floor(index / per)}.`;
  const filled = (text: string): Stored => ({
    name: layer + text.replace("{e}", expert?.[2] ?? "").replace("{j}", String(index % per)),
  });
  const renamed = [tensors.names[pattern] ?? pattern, tensors.others?.[pattern]];
  const places = renamed.filter((text) => text !== undefined).map(filled);
  const slice = expert === null ? undefined : SLICES[expert[3]];
  return fused === undefined || slice === undefined
    ? places
    : [
        ...places,
        {
          name: `${layer}${fused}.${slice.name}`,
          slice: { expert: Number(expert?.[2]), part: slice.part, parts: slice.parts },
        },
      ];
}

/** Rows of the fused matrices: all of gate, then all of up. */
const SLICES: Readonly<
  Record<string, { readonly name: string; readonly part: number; readonly parts: number }>
> = {
  ".gate_proj.weight": { name: "gate_up_proj", part: 0, parts: 2 },
  ".up_proj.weight": { name: "gate_up_proj", part: 1, parts: 2 },
  ".down_proj.weight": { name: "down_proj", part: 0, parts: 1 },
};
