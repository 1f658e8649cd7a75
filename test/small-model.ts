import { type ModelConfig, resolveModel } from "../src/model/config.js";

/** Four blocks of width 32, four experts, sequences of 16: for tests that look at programs, and run none. */
export function smallModel(arch: string, more: Readonly<Record<string, unknown>> = {}): ModelConfig {
  return resolveModel({
    arch,
    vocab_size: 64,
    hidden_size: 32,
    intermediate_size: 64,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: 16,
    ...more,
  });
}
