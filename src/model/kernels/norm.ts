import * as k from "../../kernel/build.js";
import type { Expr } from "../../kernel/kernel.js";
import type { ModelConfig } from "../config.js";

/** LayerNorm (GPT style) or RMSNorm (LLaMA style) over the last axis, with parameters `<prefix>_w`, `<prefix>_b`. */
export function norm(config: ModelConfig, x: Expr, prefix: string): Expr {
  const weight = k.parameter(`${prefix}_w`, [config.hidden_size]);
  if (config.style === "llama") return k.rmsNorm(x, weight, config.norm_eps);
  return k.layerNorm(x, weight, k.parameter(`${prefix}_b`, [config.hidden_size]), config.norm_eps);
}
