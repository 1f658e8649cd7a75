import * as k from "../../kernel/build.js";
import type { Expr } from "../../kernel/kernel.js";
import { type NormShape, norm, normParameters, normSpans } from "./norm.js";
import { type Part, tensor } from "./part.js";

export interface HeadShape {
  readonly norm: NormShape;
  readonly vocabulary: number;
}

/** What a student's head learns from beside labels. */
export interface Distillation {
  /** Logits of teacher and student are divided by it. */
  readonly temperature: number;
}

/** What the head gives: logits [T, V], or with labels [T] the cross-entropy of each token, losses [T]. */
export type HeadOutput = "logits" | "losses";

/**
 * Final norm and language-model head.
 * @param names `matrix` may be the embedding's: then it is listed there, and here read only
 */
export function head(
  shape: HeadShape,
  names: { readonly norm: string; readonly matrix: string },
): Part<[output: HeadOutput, distillation?: Distillation, rows?: "all" | "wanted"]> & {
  readonly width: number;
} {
  const { vocabulary: V } = shape;
  const D = shape.norm.width;
  const matrix = tensor(names.matrix, [V, D], "normal", { mayStartBucket: true });
  return {
    class: "head",
    width: V,
    shape,
    parameters: [...normParameters(names.norm, shape.norm), matrix],
    spans: { ...normSpans(names.norm, shape.norm), head_w: [names.matrix] },
    kernel(output, distillation, rows = "all") {
      const stream = k.input("x", ["T", D]);
      const x = rows === "all" ? stream : k.gatherRows(stream, k.input("wanted", ["L"], "i32"));
      const logits = k.linear(norm(shape.norm, x), k.parameter("head_w", [V, D]));
      if (output === "logits") return k.kernel("head", { logits });
      const losses = k.crossEntropy(logits, k.input("labels", ["T"], "i32"));
      if (distillation === undefined) return k.kernel("head", { losses });
      const teacher = k.constantInput("teacher", ["T", V]);
      return k.kernel("head", { losses, divergences: divergence(logits, teacher, distillation) });
    },
  };
}

/** τ²·KL(teacher ‖ student) per row, [T], of softmax(logits / τ) each (method 9.9). */
function divergence(student: Expr, teacher: Expr, { temperature }: Distillation): Expr {
  const softened = (logits: Expr): Expr => k.mul(logits, k.scalar(1 / temperature));
  const [s, t] = [softened(student), softened(teacher)];
  const p = k.softmax(t);
  const kl = k.sub(k.softCrossEntropy(s, p), k.softCrossEntropy(t, p));
  return k.mul(kl, k.scalar(temperature ** 2));
}
