import * as k from "../../kernel/build.js";
import type { Kernel } from "../../kernel/kernel.js";
import { type NormShape, norm } from "./norm.js";

export interface HeadShape {
  readonly norm: NormShape;
  readonly vocabulary: number;
}

/** Final norm and language-model head: logits [T, V], or with labels the cross-entropy of each token, losses [T]. */
export function headKernel(shape: HeadShape, output: "logits" | "losses"): Kernel {
  const D = shape.norm.width;
  const logits = k.linear(
    norm(shape.norm, k.input("x", ["T", D])),
    k.parameter("head_w", [shape.vocabulary, D]),
  );
  if (output === "logits") return k.kernel("head", { logits });
  return k.kernel("head", { losses: k.crossEntropy(logits, k.input("labels", ["T"], "i32")) });
}
