/** One rank with a small model to train: what the tests of gradients on one rank share. */
import { singleCommunicator } from "../src/comm/single.js";
import type { Engine } from "../src/engine/engine.js";
import { resolveModel } from "../src/model/config.js";
import { type Trainee, createTrainee } from "../src/train/trainee.js";

export const VOCABULARY = 64;

/** Four layers, four experts; weights are normal with deviation 0.2, the same in every call. */
export function smallTrainee(engine: Engine, arch: string, style: string, sequence: number): Trainee {
  const config = resolveModel({
    arch,
    style,
    vocab_size: VOCABULARY,
    hidden_size: 32,
    intermediate_size: 64,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: sequence,
  });
  const rank = createTrainee({ config, engine, world: singleCommunicator() });
  rank.weights.initialize(3, 0.2);
  return rank;
}
