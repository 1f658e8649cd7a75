/** A rank that only infers: its weights are read from their source while sessions are opened, in one form, and kept by their kernels. */
import type { Communicator } from "../comm/communicator.js";
import type { Engine } from "../engine/engine.js";
import type { WeightForm } from "../kernel/quantise.js";
import type { ModelConfig } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { WeightSource } from "../storage/weight-source.js";
import type { Services } from "./context.js";
import { Memory } from "./memory.js";
import { rankGroups } from "./rank.js";
import { StreamedWeights } from "./streamed-weights.js";

export interface InferenceRankOptions {
  readonly config: ModelConfig;
  readonly engine: Engine;
  readonly world: Communicator;
  /** Ranks that share one copy of the experts; must divide the world and the experts. Default: the whole world. */
  readonly epSize?: number | undefined;
  /** Read while sessions are opened; `weights.close()` closes it. */
  readonly source: WeightSource;
  /** In which form weights of products are held; all others are f32. */
  readonly form: WeightForm;
}

export interface InferenceRank extends Services {
  readonly config: ModelConfig;
  readonly weights: StreamedWeights;
  readonly form: WeightForm;
}

/**
 * Sessions on it have fixed weights. Once all are open, close the weights: that gives back what reading took.
 * @throws InputError when the expert-parallel size divides neither the world nor the experts; when a tensor of this rank is
 *   missing, unknown or of another shape
 */
export function createInferenceRank(options: InferenceRankOptions): InferenceRank {
  const { config, engine, source, form } = options;
  const parameters = listParameters(config);
  const { epRank, epSize, ...groups } = rankGroups(parameters, options);
  return {
    config,
    engine,
    memory: new Memory(engine),
    weights: new StreamedWeights(engine, config, { source, layout: { epRank, epSize } }),
    form,
    hasFixedWeights: true,
    ...groups,
  };
}
