import * as k from "../../kernel/build.js";
import type { Expr } from "../../kernel/kernel.js";
import { type ParameterInfo, type Spans, tensor } from "./part.js";

export interface NormShape {
  /** LayerNorm (GPT style) or RMSNorm (LLaMA style). */
  readonly kind: "layer" | "rms";
  readonly width: number;
  /** Added to the variance. */
  readonly eps: number;
}

/** Over the last axis, with the kernel parameters `ln_w` and, of a LayerNorm, `ln_b`. */
export function norm({ kind, width, eps }: NormShape, x: Expr): Expr {
  const weight = k.parameter("ln_w", [width]);
  return kind === "rms"
    ? k.rmsNorm(x, weight, eps)
    : k.layerNorm(x, weight, k.parameter("ln_b", [width]), eps);
}

export function normParameters(name: string, { kind, width }: NormShape): ParameterInfo[] {
  const weight = tensor(`${name}.weight`, [width], "ones", { mayStartBucket: true });
  return kind === "rms" ? [weight] : [weight, tensor(`${name}.bias`, [width], "zeros")];
}

export function normSpans(name: string, { kind }: NormShape): Spans {
  return { ln_w: [`${name}.weight`], ...(kind === "rms" ? {} : { ln_b: [`${name}.bias`] }) };
}
