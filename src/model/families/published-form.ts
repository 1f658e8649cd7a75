/**
 * How a model is published: which family has a class for it, its config.json and the tensors of its files. A family can hold a
 * model when what it writes of it, read again, is that model: so nothing is lost silently, and no table of exceptions is kept.
 */
import { InputError } from "../../core/errors.js";
import { shown } from "../../core/shown.js";
import { type ModelConfig, isMoeBlock, modelToJson } from "../config.js";
import { listParameters } from "../parameters.js";
import type { ParameterInfo } from "../parts/part.js";
import type { Family } from "./family.js";
import { familyNamed, readConfig } from "./index.js";
import { renormalizes } from "./router-keys.js";
import { placesOf } from "./tensor-names.js";

/** A tensor of a published file. */
export interface PublishedTensor {
  readonly name: string;
  readonly dims: readonly number[];
  /** Our tensor; undefined where the file has one that nothing is computed with: zeros. */
  readonly from?: string | undefined;
  /** Whether it is f32 in a file of bf16, too. */
  readonly isAlwaysF32: boolean;
}

/** A model in the words of its family, or of our own where none has words for it. */
export interface PublishedForm {
  readonly family?: Family | undefined;
  /** Without a family: what the nearest cannot express. */
  readonly reason?: string | undefined;
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: readonly PublishedTensor[];
}

/** A model that is of no family takes the simplest that can hold it: a dense one is none with experts in no block. */
const BY_SIMPLICITY = ["llama", "qwen2", "qwen3", "mixtral", "olmoe", "qwen3_moe", "qwen2_moe"]
  .concat(["deepseek_v2", "deepseek_v3", "longcat_flash", "instella_moe"])
  .map(familyNamed);

/**
 * @param where what is exported, for messages
 * @throws InputError naming the key that the model's own family (`config.family`) cannot express
 */
export function publishedForm(config: ModelConfig, where: string): PublishedForm {
  if (config.family !== undefined) {
    const own = familyNamed(config.family);
    const problem = whyNot(own, config);
    if (problem !== undefined) throw new InputError(`${where}: ${problem.text}`);
    return formOf(config, own);
  }
  const problems: Problem[] = [];
  for (const family of BY_SIMPLICITY) {
    const problem = whyNot(family, config);
    if (problem === undefined) return formOf(config, family);
    problems.push(problem);
  }
  // The nearest family has the architecture; where none has, that says all.
  const nearest = problems.find(({ key = "arch" }) => key !== "arch");
  return { reason: nearest?.text ?? `arch is ${config.arch}`, ...formOf(config) };
}

function formOf(config: ModelConfig, family?: Family): PublishedForm {
  const nameOf = (name: string): string =>
    family === undefined ? name : placesOf(family.tensors, name)[0].name;
  const published = (
    { name, dims }: Pick<ParameterInfo, "name" | "dims">,
    from?: string,
  ): PublishedTensor => ({
    name: nameOf(name),
    dims,
    from,
    isAlwaysF32:
      name.endsWith(".selection_bias") || (family?.hasF32Gates === true && name.endsWith(".mlp.gate.weight")),
  });
  const tensors = listParameters(config).map((info) => published(info, info.name));
  const unused = family === undefined ? [] : zeroExperts(config).map((info) => published(info));
  return {
    family,
    config: family === undefined ? modelToJson(config) : publishedConfig(config, family),
    tensors: [...tensors, ...unused],
  };
}

/** Transformers makes gate and up projections, though never down, for experts that give back their input, and misses them in a file. */
function zeroExperts(config: ModelConfig): Pick<ParameterInfo, "name" | "dims">[] {
  const { num_experts: first, num_zero_experts: count, hidden_size: width } = config;
  const layers = [...Array(config.num_hidden_layers).keys()].filter((layer) => isMoeBlock(config, layer));
  return layers.flatMap((layer) =>
    Array.from({ length: count }, (_, e) =>
      ["gate_proj", "up_proj"].map((part) => ({
        name: `model.layers.${layer}.mlp.experts.${first + e}.${part}.weight`,
        dims: [config.moe_intermediate_size, width],
      })),
    ).flat(),
  );
}

function publishedConfig(config: ModelConfig, family: Family): Record<string, unknown> {
  return { architectures: [family.architectures[0]], model_type: family.modelType, ...family.write(config) };
}

/** Why a family cannot hold a model: the first key that it has no words for. */
interface Problem {
  readonly key?: string;
  readonly text: string;
}

function whyNot(family: Family, config: ModelConfig): Problem | undefined {
  const { title } = family;
  let again: ModelConfig;
  try {
    again = readConfig(publishedConfig(config, family), title).config;
  } catch (error) {
    if (error instanceof InputError) return { text: `${title} cannot hold this model: ${error.message}` };
    throw error;
  }
  const [ours, theirs] = [config, again].map(meaning);
  const differs = (name: string): boolean => JSON.stringify(ours[name]) !== JSON.stringify(theirs[name]);
  // A key that only one of them has is missing because of another that both have.
  const both = Object.keys(ours).filter((name) => Object.hasOwn(theirs, name));
  const key = both.find(differs) ?? Object.keys({ ...ours, ...theirs }).find(differs);
  if (key === undefined) return undefined;
  const [found, said] = key === "arch" ? [config.arch, again.arch] : [ours[key], theirs[key]];
  return { key, text: `${key} is ${shown(found)}, which ${title} cannot express; it says ${shown(said)}` };
}

/** Keys that matter in training only, or not to numbers at all. */
const FREE: readonly string[] = [
  "active_experts",
  "architecture",
  "balance_bias_rate",
  "balance_bias_update",
  "balance_groups",
  "balance_statistics",
  "capacity_factor",
  "end_tokens",
  "family",
  "initializer_range",
  "router_aux_loss_coef",
  "router_z_loss_coef",
  // Told by others: the architecture, and which blocks are MoE.
  "topK",
  "dense_layers",
];
const LATENT = [
  "q_lora_rank",
  "kv_lora_rank",
  "qk_nope_head_dim",
  "qk_rope_head_dim",
  "v_head_dim",
  "latent_scale",
];
const GROUPED = ["num_key_value_heads", "head_dim", "headDim"];
const ROUTED = [
  "moe_intermediate_size",
  "num_experts",
  "norm_topk_prob",
  "router_scores",
  "routed_scaling_factor",
  "expert_groups",
  "expert_groups_kept",
  "expert_group_score",
  "num_zero_experts",
  "gate_noise",
];

/** The keys that say what a model computes: one that has no part to speak of says nothing. */
function meaning(config: ModelConfig): Record<string, unknown> {
  const { architecture: arch } = config;
  const isRouted = arch.routed !== "none";
  const moeBlocks = [...Array(config.num_hidden_layers).keys()].filter((layer) => isMoeBlock(config, layer));
  const silent = new Set([
    ...FREE,
    ...(config.attention === "latent" ? GROUPED : LATENT),
    ...(isRouted ? [] : ROUTED),
    ...(config.expert_groups === 1 || config.expert_groups_kept === config.expert_groups
      ? ["expert_groups", "expert_groups_kept", "expert_group_score"]
      : []),
    ...(arch.sharedExpert ? [] : ["shared_expert_intermediate_size", "coefficient_gate"]),
    ...(arch.routed === "shortcut" ? [] : ["shortcut_norm"]),
    ...(moeBlocks.length === config.num_hidden_layers ? ["intermediate_size"] : []),
    ...(config.sliding_window === null ? ["sliding_window_layers"] : []),
  ]);
  const keys: Record<string, unknown> = {
    ...config,
    arch,
    moe_layer_interval: `MoE in blocks ${moeBlocks.join(", ")}`,
    balance: isRouted && config.balance === "bias" ? "bias" : "no bias",
    norm_topk_prob: renormalizes(config),
  };
  return Object.fromEntries(Object.entries(keys).filter(([name]) => !silent.has(name)));
}
