/** What the routers of published configs say alike. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";

/** Names of the number of experts, all of which are used for most families. */
export const EXPERTS = ["num_experts", "num_local_experts", "n_routed_experts"];

/** The auxiliary loss counts only where the router's logits are asked for. */
export function readAuxiliary(keys: ConfigKeys, missing: number): Partial<ModelInput> {
  const coefficient = keys.value("router_aux_loss_coef") ?? missing;
  const isOn = keys.value("output_router_logits") === true;
  return {
    balance: "aux",
    router_aux_loss_coef: isOn && typeof coefficient === "number" ? coefficient : 0,
  };
}

export function writeAuxiliary({ balance, router_aux_loss_coef: coefficient }: ModelConfig) {
  const isOn = balance === "aux" && coefficient > 0;
  return { output_router_logits: isOn, ...(isOn ? { router_aux_loss_coef: coefficient } : {}) };
}

/** Whether kept scores are renormalised, where a flag says so: then a single one, too. */
export function renormalized(flag: boolean): "always" | false {
  return flag ? "always" : false;
}

/** What such a flag says of a model: one kept score is renormalised only "always". */
export function renormalizes({ norm_topk_prob: how, topK }: ModelConfig): boolean {
  return how === "always" || (how && topK > 1);
}

/**
 * Which layers are dense all the same.
 * @returns undefined where all are
 */
export function moeLayers(
  layers: number,
  of: { readonly interval: number; readonly dense: readonly number[] },
): Partial<ModelInput> | undefined {
  const { interval, dense } = of;
  const isMoe = (i: number): boolean => (i + 1) % interval === 0 && !dense.includes(i);
  if (![...Array(layers).keys()].some(isMoe)) return undefined;
  return { moe_layer_interval: interval, dense_layers: dense.filter((i) => i < layers) };
}
