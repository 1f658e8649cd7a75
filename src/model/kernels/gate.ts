import * as k from "../../kernel/build.js";
import type { Kernel } from "../../kernel/kernel.js";
import type { ModelConfig } from "../config.js";
import { norm } from "./norm.js";

/**
 * Norm and gate logits of the routed experts' input: xn = LN(x) [T, D], logits = xn·W_gateᵀ [T, N]. With noise
 * (training only): logits + z ⊙ softplus(xn·W_noiseᵀ), z standard normal [T, N] (spec, section 2).
 */
export function gateKernel(config: ModelConfig, noise: boolean): Kernel {
  const D = config.hidden_size;
  const N = config.num_experts;
  const xn = norm(config, k.input("x", ["T", D]), "ln");
  let logits = k.linear(xn, k.parameter("gate_w", [N, D]));
  if (noise) {
    const spread = k.softplus(k.linear(xn, k.parameter("noise_w", [N, D])));
    logits = k.add(logits, k.mul(k.constantInput("noise", ["T", N]), spread));
  }
  return k.kernel("gate", { xn, logits });
}
