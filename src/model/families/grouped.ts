/** Grouped-query attention in published configs. */
import type { ModelConfig, ModelInput } from "../config.js";
import type { ConfigKeys } from "./config-keys.js";

/** @param missing `kvHeads`: "heads" for as many as query heads; `headDim`: null for hidden_size / heads */
export function readGrouped(
  keys: ConfigKeys,
  heads: number,
  missing: { readonly kvHeads: number | "heads"; readonly headDim?: number },
): Pick<ModelInput, "num_key_value_heads" | "head_dim"> {
  const kvHeads = keys.countOrNull(
    "num_key_value_heads",
    missing.kvHeads === "heads" ? null : missing.kvHeads,
  );
  const headDim = keys.countOrNull("head_dim", missing.headDim ?? null);
  return {
    num_key_value_heads: kvHeads ?? heads,
    ...(headDim === null ? {} : { head_dim: headDim }),
  };
}

/** Biases of all four projections, as one key says. */
export function readBiases(keys: ConfigKeys): Pick<ModelInput, "attention_bias" | "attention_out_bias"> {
  const bias = keys.flag("attention_bias", false);
  return { attention_bias: bias, attention_out_bias: bias };
}

export function writeGrouped({ num_key_value_heads, head_dim }: ModelConfig): Record<string, unknown> {
  return { num_key_value_heads, head_dim };
}
