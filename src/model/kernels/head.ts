import * as k from "../../kernel/build.js";
import type { Kernel } from "../../kernel/kernel.js";
import type { ModelConfig } from "../config.js";
import { norm } from "./norm.js";

/** Final norm and language-model head: logits [T, V], or with labels the cross-entropy of each token, losses [T]. */
export function headKernel(config: ModelConfig, output: "logits" | "losses"): Kernel {
  const x = k.input("x", ["T", config.hidden_size]);
  const logits = k.linear(
    norm(config, x, "ln"),
    k.parameter("head_w", [config.vocab_size, config.hidden_size]),
  );
  if (output === "logits") return k.kernel("head", { logits });
  return k.kernel("head", { losses: k.crossEntropy(logits, k.input("labels", ["T"], "i32")) });
}
