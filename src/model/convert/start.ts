/**
 * With what share the shared expert and the routed experts of a converted block begin. A block of the source adds one
 * term to the stream; where the target adds two, they begin as parts of it: factors on the experts' last matrices see to that,
 * whatever the gates in front of them give at first.
 */
import type { ModelConfig } from "../config.js";

/** What is known of a source's MoE block: its routing of some text. */
export interface RoutingUsage {
  /** Rows that each expert has taken. */
  readonly rows: readonly number[];
  /** Mean over tokens of the sum of a token's weights: as the source routes, and as the target would by the same logits. */
  readonly weight: number;
  readonly targetWeight: number;
}

/** Factors on the last matrices of experts. */
export interface StartFactors {
  readonly shared: number;
  readonly routed: number;
}

/** Coefficients that a new coefficient gate, whose weights are zero, gives to the shared and the routed term. */
const FIRST_COEFFICIENTS: Readonly<
  Record<ModelConfig["coefficient_gate"], { shared: number; routed: number }>
> = {
  none: { shared: 1, routed: 1 },
  cg1: { shared: 0.5, routed: 1 },
  cg2: { shared: 0.5, routed: 0.5 },
};

/**
 * Share of a block's term that routed experts begin with where a shared expert is new, by what they were. Trained experts keep
 * most of it; copies of an MLP, which the shared expert is as well, begin small: what they read is not what the MLP read.
 */
export const ROUTED_SHARE = { experts: 0.75, mlp: 0.1 } as const;

/**
 * @param usage of the block in the source; of a dense source there is none, and its new gate knows nothing: all experts weigh alike
 * @param routedShare of the block's term, where the shared expert is new
 */
export function startFactors(
  source: ModelConfig,
  target: ModelConfig,
  of: { readonly usage?: RoutingUsage | undefined; readonly routedShare?: number | undefined },
): StartFactors {
  const isDense = source.architecture.routed === "none";
  const { sharedExpert } = target.architecture;
  const first = FIRST_COEFFICIENTS[target.coefficient_gate];
  const before = isDense ? 1 : (of.usage?.weight ?? 1);
  const after = isDense ? evenWeight(target) : (of.usage?.targetWeight ?? 1);
  // A shared expert that is kept keeps its coefficients, too.
  if (source.architecture.sharedExpert) return { shared: 1, routed: before / after };
  const share = sharedExpert ? (of.routedShare ?? ROUTED_SHARE[isDense ? "mlp" : "experts"]) : 1;
  return { shared: (1 - share) / first.shared, routed: (share * before) / (first.routed * after) };
}

/** Sum of a token's weights where all logits are equal. */
function evenWeight({ architecture, topK, norm_topk_prob, num_experts, ...config }: ModelConfig): number {
  const renormalised = norm_topk_prob === "always" || (norm_topk_prob && topK > 1);
  const score = config.router_scores === "softmax" ? 1 / (num_experts + config.num_zero_experts) : 0.5;
  const routings = architecture.routed === "dual" ? 2 : 1;
  return routings * config.routed_scaling_factor * (renormalised ? 1 : topK * score);
}
