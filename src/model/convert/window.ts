/** Where the routed experts of a model may read, and what runs while their rows travel. */
import { type ModelConfig, isMoeBlock } from "../config.js";

/** A position of the shortcut that a model's blocks offer. */
export interface OfferedPosition {
  readonly position: 1 | 2 | 3;
  readonly isChosen: boolean;
  /** "the stream of the preceding block after its attention" */
  readonly reads: string;
  /** Parts that the transfers of a block can hide behind, in their order. */
  readonly window: readonly string[];
}

const READS = {
  1: "the output of the preceding block",
  2: "the stream of the preceding block after its attention",
  3: "the input of the preceding block",
} as const;

/**
 * The positions that a model's last MoE block has, nearest first.
 * @param config of a shortcut architecture; of any other there are none
 */
export function offeredPositions(config: ModelConfig): OfferedPosition[] {
  const { architecture, num_hidden_layers: layers } = config;
  if (architecture.routed !== "shortcut") return [];
  const block = Array.from({ length: layers }, (_, l) => l).findLast((l) => isMoeBlock(config, l)) ?? 0;
  // The first block of a model has none before it: it reads the embedding.
  const positions = block === 0 ? ([1] as const) : ([1, 2, 3] as const);
  const own = ["its attention", "its shared expert"];
  const before = isMoeBlock(config, block - 1)
    ? "the preceding block's shared expert"
    : "the preceding block's MLP";
  return positions.map((position) => ({
    position,
    isChosen: position === architecture.position || positions.length === 1,
    reads: block === 0 ? "the embedding" : READS[position],
    window: [
      ...(position === 3 ? ["the preceding block's attention"] : []),
      ...(position >= 2 ? [before] : []),
      ...own,
    ],
  }));
}

/** As lines for people. */
export function positionLines(config: ModelConfig): string[] {
  const every =
    config.moe_layer_interval === 1
      ? "every block is MoE"
      : `MoE in every block of ${config.moe_layer_interval}`;
  return offeredPositions(config).map(({ position, isChosen, reads, window }) => {
    const mark = isChosen ? "chosen" : "offered too";
    return `Position ${position} (${mark}; ${every}): routed experts read ${reads}; window: ${window.join(", ")}`;
  });
}
