import * as k from "../../kernel/build.js";
import { type NormShape, norm, normParameters, normSpans } from "./norm.js";
import { type Part, tensor } from "./part.js";

export interface HeadShape {
  readonly norm: NormShape;
  readonly vocabulary: number;
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
): Part<[output: HeadOutput]> & { readonly width: number } {
  const { vocabulary: V } = shape;
  const D = shape.norm.width;
  const matrix = tensor(names.matrix, [V, D], "normal", { mayStartBucket: true });
  return {
    class: "head",
    width: V,
    shape,
    parameters: [...normParameters(names.norm, shape.norm), matrix],
    spans: { ...normSpans(names.norm, shape.norm), head_w: [names.matrix] },
    kernel(output) {
      const logits = k.linear(norm(shape.norm, k.input("x", ["T", D])), k.parameter("head_w", [V, D]));
      if (output === "logits") return k.kernel("head", { logits });
      return k.kernel("head", { losses: k.crossEntropy(logits, k.input("labels", ["T"], "i32")) });
    },
  };
}
