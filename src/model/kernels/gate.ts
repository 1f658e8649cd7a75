import * as k from "../../kernel/build.js";
import type { Kernel } from "../../kernel/kernel.js";
import { type NormShape, norm } from "./norm.js";

export interface GateShape {
  readonly norm: NormShape;
  readonly experts: number;
  readonly noise: boolean;
}

/**
 * Norm and gate logits of the routed experts' input: xn = LN(x) [T, D], logits = xn·W_gateᵀ [T, N]. With noise
 * (training only): logits + z ⊙ softplus(xn·W_noiseᵀ), z standard normal [T, N] (spec, section 2).
 */
export function gateKernel(shape: GateShape): Kernel {
  const [D, N] = [shape.norm.width, shape.experts];
  const xn = norm(shape.norm, k.input("x", ["T", D]));
  let logits = k.linear(xn, k.parameter("gate_w", [N, D]));
  if (shape.noise) {
    const spread = k.softplus(k.linear(xn, k.parameter("noise_w", [N, D])));
    logits = k.add(logits, k.mul(k.constantInput("noise", ["T", N]), spread));
  }
  return k.kernel("gate", { xn, logits });
}
