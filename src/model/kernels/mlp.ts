/** The feed-forward kernels: dense MLP, routed expert, shared expert. R rows, D width, F feed-forward width. */
import * as k from "../../kernel/build.js";
import type { Expr, Kernel } from "../../kernel/kernel.js";
import type { ModelConfig } from "../config.js";
import { norm } from "./norm.js";

/** GPT: W₂·gelu(W₁x + b₁) + b₂. LLaMA: W_down·(silu(W_gate x) ⊙ W_up x), gate and up as one matrix [2F, D]. */
function feedForward(config: ModelConfig, x: Expr, F: number): Expr {
  const D = config.hidden_size;
  if (config.style === "gpt") {
    const hidden = k.gelu(k.linear(x, k.parameter("in_w", [F, D]), k.parameter("in_b", [F])));
    return k.linear(hidden, k.parameter("out_w", [D, F]), k.parameter("out_b", [D]));
  }
  const both = k.linear(x, k.parameter("in_w", [2 * F, D]));
  const hidden = k.mul(k.silu(k.slice(both, 1, 0, F)), k.slice(both, 1, F, 2 * F));
  return k.linear(hidden, k.parameter("out_w", [D, F]));
}

/** y = x + MLP(LN(x)) */
export function mlpKernel(config: ModelConfig): Kernel {
  const x = k.input("x", ["T", config.hidden_size]);
  return k.kernel("mlp", {
    y: k.add(x, feedForward(config, norm(config, x, "ln"), config.intermediate_size)),
  });
}

/** One routed expert on the rows sent to it: y = E(x), no norm, no residual. */
export function expertKernel(config: ModelConfig): Kernel {
  const x = k.input("x", ["R", config.hidden_size]);
  return k.kernel("expert", { y: feedForward(config, x, config.moe_intermediate_size) });
}

/**
 * The shared expert with residual and coefficient gate (spec, section 3), xn = LN(x):
 * y = x + c₀·SE(xn), and for CG-2 also `scale` = c₁ [T, 1], the coefficient of the routed sum.
 */
export function sharedExpertKernel(config: ModelConfig): Kernel {
  const D = config.hidden_size;
  const x = k.input("x", ["T", D]);
  const xn = norm(config, x, "ln");
  const shared = feedForward(config, xn, config.shared_expert_intermediate_size);
  switch (config.coefficient_gate) {
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
