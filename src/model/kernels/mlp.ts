/** The feed-forward kernels: dense MLP, routed expert, shared expert. R rows, D width, F feed-forward width. */
import * as k from "../../kernel/build.js";
import type { Expr, Kernel } from "../../kernel/kernel.js";
import { type NormShape, norm } from "./norm.js";

export interface FeedForwardShape {
  readonly width: number;
  readonly inner: number;
  readonly kind: "gelu" | "swiglu";
  readonly bias: boolean;
}

export interface SharedExpertShape {
  readonly norm: NormShape;
  readonly feedForward: FeedForwardShape;
  readonly coefficients: "none" | "cg1" | "cg2";
}

/** gelu: W₂·gelu(W₁x + b₁) + b₂. swiglu: W_down·(silu(W_gate x) ⊙ W_up x), gate and up as one matrix [2F, D]. */
function feedForward({ width: D, inner: F, kind, bias }: FeedForwardShape, x: Expr): Expr {
  const project = (from: Expr, name: string, out: number, width: number): Expr =>
    k.linear(
      from,
      k.parameter(`${name}_w`, [out, width]),
      bias ? k.parameter(`${name}_b`, [out]) : undefined,
    );
  if (kind === "gelu") return project(k.gelu(project(x, "in", F, D)), "out", D, F);
  const both = project(x, "in", 2 * F, D);
  return project(k.mul(k.silu(k.slice(both, 1, 0, F)), k.slice(both, 1, F, 2 * F)), "out", D, F);
}

/** y = x + MLP(LN(x)) */
export function mlpKernel(shape: FeedForwardShape, before: NormShape): Kernel {
  const x = k.input("x", ["T", shape.width]);
  return k.kernel("mlp", { y: k.add(x, feedForward(shape, norm(before, x))) });
}

/** One routed expert on the rows sent to it: y = E(x), no norm, no residual. */
export function expertKernel(shape: FeedForwardShape): Kernel {
  return k.kernel("expert", { y: feedForward(shape, k.input("x", ["R", shape.width])) });
}

/**
 * The shared expert with residual and coefficient gate (spec, section 3), xn = LN(x):
 * y = x + c₀·SE(xn), and for CG-2 also `scale` = c₁ [T, 1], the coefficient of the routed sum.
 */
export function sharedExpertKernel(shape: SharedExpertShape): Kernel {
  const D = shape.norm.width;
  const x = k.input("x", ["T", D]);
  const xn = norm(shape.norm, x);
  const shared = feedForward(shape.feedForward, xn);
  switch (shape.coefficients) {
    case "none":
      return k.kernel("shared", { y: k.add(x, shared) });
    case "cg1": {
      const c0 = k.sigmoid(k.linear(xn, k.parameter("coef_w", [1, D])));
      return k.kernel("shared", { y: k.add(x, k.mul(c0, shared)) });
    }
    case "cg2": {
      const c = k.softmax(k.linear(xn, k.parameter("coef_w", [2, D])));
      const c0 = k.slice(c, 1, 0, 1);
      return k.kernel("shared", { y: k.add(x, k.mul(c0, shared)), scale: k.slice(c, 1, 1, 2) });
    }
  }
}
