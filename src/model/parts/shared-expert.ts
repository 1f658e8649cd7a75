import * as k from "../../kernel/build.js";
import type { Kernel } from "../../kernel/kernel.js";
import {
  type FeedForwardShape,
  feedForward,
  feedForwardParameters,
  feedForwardSpans,
} from "./feed-forward.js";
import { type NormShape, norm, normParameters, normSpans } from "./norm.js";
import { type Part, linears } from "./part.js";
import { type Residual, withResidual } from "./residual.js";

export interface SharedExpertShape {
  readonly norm: NormShape;
  readonly feedForward: FeedForwardShape;
  /** How the shared and the routed terms combine. */
  readonly coefficients: "none" | "cg1" | "cg2";
}

const NUM_COEFFICIENTS = { none: 0, cg1: 1, cg2: 2 } as const;

export function sharedExpert(
  shape: SharedExpertShape,
  names: { readonly moe: string; readonly norm: string },
): Part<[residual?: Residual]> {
  const expert = `${names.moe}.shared_expert`;
  const numCoefficients = NUM_COEFFICIENTS[shape.coefficients];
  const isWeighted = numCoefficients > 0;
  const gate = [["shared_expert_gate", numCoefficients, shape.norm.width]] as const;
  return {
    class: "shared",
    shape,
    parameters: [
      ...normParameters(names.norm, shape.norm),
      ...feedForwardParameters(expert, shape.feedForward),
      ...(isWeighted ? linears(names.moe, gate, { bias: false }) : []),
    ],
    spans: {
      ...normSpans(names.norm, shape.norm),
      ...feedForwardSpans(expert, shape.feedForward),
      ...(isWeighted ? { coef_w: [`${names.moe}.shared_expert_gate.weight`] } : {}),
    },
    kernel: (residual) => sharedExpertKernel(shape, residual),
  };
}

/**
 * The shared expert with residual and coefficient gate (method 5.4), xn = LN(x):
 * y = x + c₀·SE(xn), or c₀·SE(xn) alone, and for CG-2 also `scale` = c₁ [T, 1], the coefficient of the routed sum.
 */
function sharedExpertKernel(shape: SharedExpertShape, residual?: Residual): Kernel {
  const D = shape.norm.width;
  const x = k.input("x", ["T", D]);
  const xn = norm(shape.norm, x);
  const shared = feedForward(shape.feedForward, xn);
  switch (shape.coefficients) {
    case "none":
      return k.kernel("shared", { y: withResidual(x, shared, residual) });
    case "cg1": {
      const c0 = k.sigmoid(k.linear(xn, k.exactParameter("coef_w", [1, D])));
      return k.kernel("shared", { y: withResidual(x, k.mul(c0, shared), residual) });
    }
    case "cg2": {
      const c = k.softmax(k.linear(xn, k.exactParameter("coef_w", [2, D])));
      const c0 = k.slice(c, 1, 0, 1);
      const y = withResidual(x, k.mul(c0, shared), residual);
      return k.kernel("shared", { y, scale: k.slice(c, 1, 1, 2) });
    }
  }
}
