/** Everything one rank owns while it runs a model: engine, memory, weights, and its places in the rank layout (method 6.1). */
import type { Communicator } from "../comm/communicator.js";
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import type { Engine } from "../engine/engine.js";
import type { ModelConfig } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { Services } from "./context.js";
import { Memory } from "./memory.js";
import { type WeightLayout, Weights } from "./weights.js";

export interface RankOptions extends Pick<WeightLayout, "bucketElements" | "beside"> {
  readonly config: ModelConfig;
  readonly engine: Engine;
  readonly world: Communicator;
  /** Ranks that share one copy of the experts; must divide the world and the experts. Default: the whole world. */
  readonly epSize?: number;
}

export interface Rank extends Services {
  readonly config: ModelConfig;
  readonly weights: Weights;
}

/**
 * Ranks that share one copy of the experts.
 * @throws InputError when they divide neither the ranks nor the experts
 */
export function expertParallelSize(
  parameters: readonly ParameterInfo[],
  of: { readonly config: ModelConfig; readonly ranks: number; readonly wanted: number | undefined },
): number {
  const { config, ranks, wanted } = of;
  const hasExperts = parameters.some(({ expert }) => expert !== undefined);
  const epSize = wanted ?? (hasExperts ? ranks : 1);
  if (ranks % epSize !== 0)
    throw new InputError(
      `The expert-parallel size ${epSize} does not divide the number of ranks ${ranks}; choose a number of ranks or an expert-parallel size so that it does`,
    );
  if (hasExperts && config.num_experts % epSize !== 0)
    throw new InputError(
      `num_experts ${config.num_experts} is not a multiple of the expert-parallel size ${epSize}; choose a number of ranks or an expert-parallel size that divides it (all ranks share the experts unless a size is given)`,
    );
  return epSize;
}

/** A rank's place among ranks that share the experts, and its communicators. */
export interface RankGroups extends Pick<Services, "world" | "ep" | "replicas"> {
  readonly epRank: number;
  readonly epSize: number;
}

/** @throws InputError when the expert-parallel size divides neither the world nor the experts */
export function rankGroups(
  parameters: readonly ParameterInfo[],
  { config, world, epSize: wanted }: Pick<RankOptions, "config" | "world" | "epSize">,
): RankGroups {
  const epSize = expertParallelSize(parameters, { config, ranks: world.size, wanted });
  // A group of all ranks, or of one, needs no communicator of its own.
  const group = (size: number, colorOf: (rank: number) => number): Communicator =>
    size === world.size ? world : size === 1 ? singleCommunicator() : world.split(colorOf);
  return {
    epRank: world.rank % epSize,
    epSize,
    world,
    ep: group(epSize, (rank) => Math.floor(rank / epSize)),
    replicas: group(world.size / epSize, (rank) => rank % epSize),
  };
}

/** @throws InputError when the expert-parallel size divides neither the world nor the experts */
export function createRank(options: RankOptions): Rank {
  const { config, engine, bucketElements, beside } = options;
  const parameters = listParameters(config);
  const { epRank, epSize, ...groups } = rankGroups(parameters, options);
  return {
    config,
    engine,
    memory: new Memory(engine),
    weights: new Weights(engine, parameters, { epRank, epSize, bucketElements, beside }),
    ...groups,
  };
}
