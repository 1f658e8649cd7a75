/**
 * How the blocks of a model are wired to each other (method 5): which streams run from block to block, and which of them
 * each part reads. This file, `moe-block.ts` and `architectures.ts` are the only places that know architectures; everything
 * after them sees a DAG.
 */
import type { Architecture } from "./architectures.js";
import {
  type BlockStreams,
  type MoeBlockOptions,
  moeBlock,
  startAheadOfMlp,
  startShortcut,
} from "./moe-block.js";
import { type RoutedBranch, decodeBranch, routedBranch } from "./routed-branch.js";
import type { BlockParts } from "./structure.js";
import { type BlockInput, addAttention, addMlp, addShared } from "./sublayers.js";
import type { Wires } from "./wires.js";

/** A block, and what beside the streams its parts read. */
export interface Block extends MoeBlockOptions, Pick<BlockInput, "beside"> {
  readonly parts: BlockParts;
  /** FarSkip: which stream a dense MLP reads, the one after the block's attention or the one before. */
  readonly denseReads: "after" | "before";
}

/** Adds all blocks behind the embedded tokens. @returns the stream that the head reads, [T, D] */
export type Wiring = (wires: Wires, blocks: readonly Block[], embedded: number) => number;

export const WIRINGS: Readonly<Record<Architecture["wiring"], Wiring>> = { standard, farskip };

/** One stream. What sets architectures apart is where the routed experts' rows come from: `moe-block.ts`. */
function standard(wires: Wires, blocks: readonly Block[], embedded: number): number {
  let before: BlockStreams = { input: embedded, afterAttention: embedded, output: embedded };
  let ahead: RoutedBranch | undefined;
  for (const block of blocks) {
    const { parts, layer, beside } = block;
    const input = before.output;
    const shortcut = ahead ?? (parts.moe && startShortcut(wires, parts.moe, before, block));
    const afterAttention = addAttention(wires, parts, { layer, x: input, beside });
    const next = blocks.at(layer + 1);
    ahead = next?.parts.moe && startAheadOfMlp(wires, next.parts.moe, { input, afterAttention }, next);
    const output =
      parts.moe === undefined
        ? addMlp(wires, parts, { layer, x: afterAttention })
        : moeBlock(wires, parts.moe, afterAttention, { ...block, shortcut });
    before = { input, afterAttention, output };
  }
  return before.output;
}

/**
 * Two streams (method 5.7): `full` has everything, `partial` lacks the routed term of the block that made it. Attention reads
 * `partial`, so it need not wait for rows that are still on their way; all sums are with `full`.
 */
function farskip(wires: Wires, blocks: readonly Block[], embedded: number): number {
  let full = embedded;
  let partial = embedded;
  for (const { parts, layer, rule, withNoise, denseReads, beside } of blocks) {
    const { moe } = parts;
    const branch =
      moe && routedBranch(wires, moe, { layer, name: `L${layer}`, rule, source: full, withNoise });
    const attended = addAttention(wires, parts, { layer, x: partial, base: full, beside });
    if (moe?.shared === undefined || branch === undefined) {
      const x = denseReads === "before" ? full : attended;
      full = partial = addMlp(wires, parts, { layer, x, base: attended });
    } else {
      const shared = addShared(wires, moe.shared, { layer, x: full, base: attended });
      partial = shared.y;
      full = decodeBranch(wires, branch, { layer, base: partial, scale: shared.scale });
    }
  }
  return full;
}
