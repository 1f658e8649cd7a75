/** The keys of a router: how tokens choose experts, and what keeps experts evenly loaded. */
import { z } from "zod";
import { BOUNDS } from "../core/bounds.js";
import type { Architecture } from "./architectures.js";

const experts = z.number().int().positive().max(BOUNDS.experts.to);
const aboveZero = z.number().positive().max(1e9);
const fromZero = z.number().nonnegative().max(1e9);

export const routerKeys = {
  norm_topk_prob: z
    .union([z.boolean(), z.literal("always")])
    .optional()
    .describe(
      "Kept scores renormalised to sum 1: true where k ≥ 2; always: a single one too; default by arch, mostly true",
    ),
  router_scores: z
    .enum(["softmax", "sigmoid"])
    .default("softmax")
    .describe("What the router's logits become"),
  routed_scaling_factor: aboveZero.default(1).describe("Factor of every routed expert's weight"),
  expert_groups: experts.default(1).describe("Groups of neighbouring experts; must divide num_experts"),
  expert_groups_kept: experts.optional().describe("A token's experts are of so many groups; default all"),
  expert_group_score: z
    .enum(["best", "two_best"])
    .default("best")
    .describe("What a group counts: its best score, or the sum of its two best"),
  num_zero_experts: z
    .number()
    .int()
    .nonnegative()
    .max(BOUNDS.experts.to)
    .default(0)
    .describe("Experts after the others that give their input back: nothing is computed, nothing travels"),
  active_experts: aboveZero
    .optional()
    .describe(
      "Wanted mean of a token's experts that are not zero experts; default k·num_experts / (num_experts + num_zero_experts)",
    ),
  gate_noise: z.boolean().default(false).describe("Learned Gaussian noise on the gate's logits in training"),
  balance: z
    .enum(["aux", "bias", "none"])
    .optional()
    .describe("Auxiliary loss, selection bias, or nothing; default by arch, mostly aux"),
  balance_groups: experts
    .optional()
    .describe(
      "The balance loss counts so many groups of neighbouring experts (and the zero experts as one), also beside balance: bias",
    ),
  balance_statistics: z
    .enum(["global", "micro_batch", "rank"])
    .default("global")
    .describe("Tokens the balance loss counts: the step's, one micro-batch's of all ranks, one rank's"),
  router_aux_loss_coef: fromZero
    .default(0.01)
    .describe("Weight of the balance loss (balance: aux, or balance_groups)"),
  router_z_loss_coef: fromZero.default(0).describe("Weight of the squared log-sum of the gate logits"),
  balance_bias_rate: fromZero.default(0.001).describe("Step of the selection bias (balance: bias)"),
  balance_bias_update: z
    .enum(["sign", "proportional"])
    .optional()
    .describe(
      "The step goes by the sign of what an expert lacks, or by how much of all choices that is; default proportional with zero experts",
    ),
};

type Keys = z.output<z.ZodObject<typeof routerKeys>>;

/** What a router's keys are judged with. */
interface RouterConfig extends Keys {
  readonly arch: string;
  readonly architecture: Pick<Architecture, "routed" | "topK">;
  readonly num_experts: number;
}

/** Of a token's k choices, those that are not zero experts if all are chosen equally often; nothing where it is set, or has no sense. */
export function evenActive(
  keys: Pick<RouterConfig, "num_experts" | "num_zero_experts" | "active_experts">,
  k: number,
): Pick<RouterConfig, "active_experts"> {
  const { num_experts: N, num_zero_experts: Z, active_experts: given } = keys;
  return given !== undefined || Z === 0 ? {} : { active_experts: (k * N) / (N + Z) };
}

/** @returns the first contradiction: key, value found, value wanted; undefined if there is none */
export function whyNoRouter(config: RouterConfig): string | undefined {
  return whyNoGroups(config) ?? whyNoZeroExperts(config) ?? whyNoBalance(config);
}

function whyNoGroups(config: RouterConfig): string | undefined {
  const { num_experts: N, expert_groups: count, architecture: arch } = config;
  const kept = config.expert_groups_kept ?? count;
  if (count === 1) return kept === 1 ? undefined : `expert_groups_kept is ${kept}, but expert_groups is 1`;
  const size = N / count;
  // DGMoE's second routing must not choose what the first did.
  const choices = arch.routed === "dual" ? 2 : arch.topK;
  if (arch.routed === "none")
    return `expert_groups is ${count}, but arch ${config.arch} has no experts; remove the key`;
  if (N % count !== 0) return `num_experts ${N} is not a multiple of expert_groups ${count}`;
  if (kept > count) return `expert_groups_kept is ${kept}, more than expert_groups ${count}`;
  if (config.num_zero_experts > 0)
    return `num_zero_experts is ${config.num_zero_experts}, but zero experts belong to no group; expert_groups is ${count}, wanted 1`;
  if (config.expert_group_score === "two_best" && size < 2)
    return `expert_group_score two_best needs groups of at least two; ${N} experts in ${count} groups are ${size} each`;
  if (choices > kept * size)
    return `arch ${config.arch} sends each token to ${choices} experts, but the ${kept} groups that are kept have ${kept * size}; set expert_groups_kept higher`;
  return undefined;
}

function whyNoZeroExperts(config: RouterConfig): string | undefined {
  const { num_zero_experts: zero, active_experts: active, architecture: arch } = config;
  if (zero === 0)
    return active === undefined
      ? undefined
      : `active_experts is ${active}, but without num_zero_experts all experts are active; remove the key`;
  if (arch.routed === "none")
    return `num_zero_experts is ${zero}, but arch ${config.arch} has no experts; wanted 0`;
  if (arch.routed === "dual")
    return `num_zero_experts is ${zero}, but arch ${config.arch} knows none; wanted 0`;
  return active === undefined || active < arch.topK
    ? undefined
    : `active_experts is ${active}, wanted less than ${arch.topK}, the choices of a token of arch ${config.arch}, of which some go to zero experts`;
}

function whyNoBalance(config: RouterConfig): string | undefined {
  const { balance_groups: groups, num_experts: N, balance, architecture: arch } = config;
  if (groups === undefined) return undefined;
  if (arch.routed === "none")
    return `balance_groups is ${groups}, but arch ${config.arch} has no experts; remove the key`;
  if (N % groups !== 0) return `num_experts ${N} is not a multiple of balance_groups ${groups}`;
  return balance === "none"
    ? `balance_groups is ${groups}, but balance is none; wanted aux or bias`
    : undefined;
}
