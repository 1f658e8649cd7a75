/**
 * The MoE sub-layer of models with one stream (method 5): where the routed experts' rows come from, and where they are added. What
 * distinguishes top-2 from ScMoE Pos-2 from DGMoE.
 */
import type { Architecture } from "./architectures.js";
import { type RoutedBranch, type RoutingRule, decodeBranch, routedBranch } from "./routed-branch.js";
import type { MoeParts } from "./structure.js";
import { addShared } from "./sublayers.js";
import type { Wires } from "./wires.js";

/** The residual stream of one block at the places a shortcut may leave from. */
export interface BlockStreams {
  readonly input: number;
  readonly afterAttention: number;
  readonly output: number;
}

export interface MoeBlockOptions {
  readonly layer: number;
  readonly architecture: Architecture;
  readonly rule: RoutingRule;
  /** Whether no MoE block precedes this one, and no block at all. */
  readonly isFirstMoe: boolean;
  readonly isFirstBlock: boolean;
  readonly withNoise: boolean;
  /** Whether a shortcut's gate has the norm of the preceding block's MLP. */
  readonly reusesNorm: boolean;
}

/**
 * A shortcut whose gate shares a norm with the MLP of the block that it leaves starts ahead of that MLP. Gradients of the norm
 * are added in the reverse of the program's order: the MLP's, which need no experts, then come first and wait for nothing.
 * @param before the block that the shortcut leaves, as far as its attention
 */
export function startAheadOfMlp(
  wires: Wires,
  moe: MoeParts,
  before: Omit<BlockStreams, "output">,
  options: MoeBlockOptions,
): RoutedBranch | undefined {
  const { routed } = options.architecture;
  if (routed !== "shortcut" || !options.reusesNorm || placeOf(options) === 1) return undefined;
  return startShortcut(wires, moe, { ...before, output: NaN }, options);
}

function placeOf({ architecture: { position = 1, firstPosition }, isFirstMoe }: MoeBlockOptions): 1 | 2 | 3 {
  return (isFirstMoe ? firstPosition : undefined) ?? position;
}

/** Shortcut architectures start their routed branch as soon as its input exists: one block early. */
export function startShortcut(
  wires: Wires,
  moe: MoeParts,
  before: BlockStreams,
  options: MoeBlockOptions,
): RoutedBranch | undefined {
  const { layer, rule, withNoise } = options;
  const { routed } = options.architecture;
  if (routed !== "shortcut" && routed !== "dual") return undefined;
  const place = placeOf(options);
  const source =
    options.isFirstBlock || place === 1 ? before.output : place === 2 ? before.afterAttention : before.input;
  const name = routed === "dual" ? `L${layer}.previous` : `L${layer}`;
  return routedBranch(wires, moe, { layer, name, rule, source, withNoise });
}

/**
 * The MoE sub-layer on the stream after attention.
 * @param shortcut the branch that `startShortcut` began
 * @returns the block's output
 */
export function moeBlock(
  wires: Wires,
  moe: MoeParts,
  x: number,
  options: MoeBlockOptions & { readonly shortcut?: RoutedBranch },
): number {
  const { layer, rule, withNoise, shortcut } = options;
  const { routed } = options.architecture;
  const readsCurrent = routed === "current" || routed === "dual";
  const current = readsCurrent
    ? routedBranch(wires, moe, {
        layer,
        name: `L${layer}`,
        rule,
        source: x,
        withNoise,
        avoid: shortcut?.routing,
      })
    : undefined;
  let base = x;
  let scale: number | undefined;
  if (moe.shared !== undefined) {
    const shared = addShared(wires, moe.shared, { layer, x });
    base = shared.y;
    scale = shared.scale;
  }
  for (const branch of [shortcut, current])
    if (branch !== undefined) base = decodeBranch(wires, branch, { layer, base, scale });
  return base;
}
