/**
 * A model config from the few keys of a fixture and the names and dims of its tensors: the style, the MoE blocks,
 * head and bias conventions are visible in the weights.
 */
type Shapes = ReadonlyMap<string, readonly number[]>;

/** Keys given always win over what the tensors suggest. */
export function inferConfig(
  given: Readonly<Record<string, unknown>>,
  shapes: Shapes,
): Record<string, unknown> {
  const layer = "model.layers.0";
  const hidden = given.hidden_size as number;
  const heads = given.num_attention_heads as number;
  const inferred: Record<string, unknown> = {
    style: shapes.has("model.embed_positions.weight") ? "gpt" : "llama",
    tie_word_embeddings: !shapes.has("lm_head.weight"),
    attention_bias: shapes.has(`${layer}.self_attn.q_proj.bias`),
  };
  const keys = shapes.get(`${layer}.self_attn.k_proj.weight`);
  if (keys !== undefined) inferred.num_key_value_heads = keys[0] / (hidden / heads);
  const isMoe = (index: number) =>
    [...shapes.keys()].some(
      (name) =>
        name.startsWith(`model.layers.${index}.mlp.experts.`) ||
        name === `model.layers.${index}.mlp.gate.weight`,
    );
  if (isMoe(0)) inferred.moe_layer_interval = 1;
  for (const [name, dims] of shapes) {
    if (/mlp\.experts\.0\.up_proj\.weight$/.test(name)) inferred.moe_intermediate_size = dims[0];
    if (/mlp\.shared_expert\.up_proj\.weight$/.test(name)) inferred.shared_expert_intermediate_size = dims[0];
    if (/mlp\.shared_expert_gate\.weight$/.test(name))
      inferred.coefficient_gate = dims[0] === 1 ? "cg1" : "cg2";
  }
  const usesShortcut = String(given.arch).startsWith("scmoe");
  if (usesShortcut) {
    const own = [...shapes.keys()].some((name) => name.endsWith("shortcut_layernorm.weight"));
    inferred.shortcut_norm = own ? "own" : "reuse";
  }
  const defined = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const renamed = renameKeys(defined);
  return { ...inferred, ...renamed };
}

/** Other spellings that the same settings have in Hugging Face configs. */
const ALIASES: Readonly<Record<string, string>> = {
  rms_norm_eps: "norm_eps",
  layer_norm_eps: "norm_eps",
  layer_norm_epsilon: "norm_eps",
  num_local_experts: "num_experts",
  balance_coefficient: "router_aux_loss_coef",
};

function renameKeys(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(config).map(([key, value]) => [ALIASES[key] ?? key, value]));
}
