/** Everything one rank owns while it runs a model: engine, memory, parameters, and its places in the rank layout. */
import type { Communicator } from "../comm/communicator.js";
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import type { Engine } from "../engine/engine.js";
import type { ModelConfig } from "../model/config.js";
import { listParameters } from "../model/parameters.js";
import { Memory } from "./memory.js";
import { ParameterStore } from "./parameter-store.js";

export interface RankOptions {
  readonly config: ModelConfig;
  readonly engine: Engine;
  readonly world: Communicator;
  /** Ranks that share one copy of the experts; must divide the world and the experts. Default: the whole world. */
  readonly epSize?: number;
  readonly training: boolean;
  /** Shard the optimiser state of replicated weights (ZeRO-1). */
  readonly zero?: boolean;
  readonly bucketElements?: number;
}

export interface Rank {
  readonly config: ModelConfig;
  readonly engine: Engine;
  readonly memory: Memory;
  readonly parameters: ParameterStore;
  readonly world: Communicator;
  readonly ep: Communicator;
  readonly replicas: Communicator;
  readonly zero: boolean;
}

/** @throws InputError when the expert-parallel size divides neither the world nor the experts */
export function createRank(options: RankOptions): Rank {
  const { config, engine, world } = options;
  const routed = config.architecture.routed !== "none";
  const epSize = options.epSize ?? (routed ? world.size : 1);
  if (world.size % epSize !== 0)
    throw new InputError(`Expert-parallel size ${epSize} does not divide the number of ranks ${world.size}`);
  if (routed && config.num_experts % epSize !== 0)
    throw new InputError(
      `num_experts ${config.num_experts} is not a multiple of the expert-parallel size ${epSize}; choose --ep so that it is`,
    );
  const epRank = world.rank % epSize;
  // A group of all ranks, or of one, needs no communicator of its own.
  const group = (size: number, colorOf: (rank: number) => number): Communicator =>
    size === world.size ? world : size === 1 ? singleCommunicator() : world.split(colorOf);
  const ep = group(epSize, (rank) => Math.floor(rank / epSize));
  const replicas = group(world.size / epSize, (rank) => rank % epSize);
  const parameters = new ParameterStore(engine, listParameters(config), {
    epRank,
    epSize,
    training: options.training,
    zero: options.zero ? { shard: world.rank, shards: world.size } : undefined,
    bucketElements: options.bucketElements,
  });
  return {
    config,
    engine,
    memory: new Memory(engine),
    parameters,
    world,
    ep,
    replicas,
    zero: options.zero ?? false,
  };
}
