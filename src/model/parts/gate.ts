import * as k from "../../kernel/build.js";
import type { Kernel } from "../../kernel/kernel.js";
import { type NormShape, norm, normParameters, normSpans } from "./norm.js";
import { type Part, tensor } from "./part.js";

export interface GateShape {
  readonly norm: NormShape;
  /** One for each expert, zero experts included. */
  readonly numLogits: number;
  /** Learned Gaussian noise on the logits in training. */
  readonly noise: boolean;
  /** A bias for the selection alone, moved by the load. */
  readonly selectionBias: boolean;
}

/** The gate of an MoE sub-layer. */
export interface GatePart extends Part<[withNoise: boolean]> {
  /** Name of the selection bias, where there is one. */
  readonly selectionBias?: string;
}

export function gate(shape: GateShape, names: { readonly gate: string; readonly norm: string }): GatePart {
  const { numLogits: N, noise } = shape;
  const D = shape.norm.width;
  const selectionBias = shape.selectionBias ? `${names.gate}.selection_bias` : undefined;
  return {
    class: "gate",
    shape,
    parameters: [
      ...normParameters(names.norm, shape.norm),
      tensor(`${names.gate}.weight`, [N, D], "normal"),
      ...(noise ? [tensor(`${names.gate}.noise.weight`, [N, D], "zeros")] : []),
      ...(selectionBias === undefined ? [] : [tensor(selectionBias, [N], "zeros", { buffer: true })]),
    ],
    spans: {
      ...normSpans(names.norm, shape.norm),
      gate_w: [`${names.gate}.weight`],
      ...(noise ? { noise_w: [`${names.gate}.noise.weight`] } : {}),
    },
    selectionBias,
    kernel: (withNoise) => gateKernel(shape, withNoise && noise),
  };
}

/**
 * Norm and gate logits of the routed experts' input: xn = LN(x) [T, D], logits = xn·W_gateᵀ [T, N]. With noise
 * (training only): logits + z ⊙ softplus(xn·W_noiseᵀ), z standard normal [T, N] (method 3.1).
 */
function gateKernel({ norm: before, numLogits: N }: GateShape, withNoise: boolean): Kernel {
  const D = before.width;
  const xn = norm(before, k.input("x", ["T", D]));
  let logits = k.linear(xn, k.exactParameter("gate_w", [N, D]));
  if (withNoise) {
    const spread = k.softplus(k.linear(xn, k.exactParameter("noise_w", [N, D])));
    logits = k.add(logits, k.mul(k.constantInput("noise", ["T", N]), spread));
  }
  return k.kernel("gate", { xn, logits });
}
