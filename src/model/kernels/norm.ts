import * as k from "../../kernel/build.js";
import type { Expr } from "../../kernel/kernel.js";

export interface NormShape {
  readonly kind: "layer" | "rms";
  readonly width: number;
  readonly eps: number;
}

/** LayerNorm or RMSNorm over the last axis, with parameters `ln_w` and, for LayerNorm, `ln_b`. */
export function norm({ kind, width, eps }: NormShape, x: Expr): Expr {
  const weight = k.parameter("ln_w", [width]);
  return kind === "rms"
    ? k.rmsNorm(x, weight, eps)
    : k.layerNorm(x, weight, k.parameter("ln_b", [width]), eps);
}
