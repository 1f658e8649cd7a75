/** Memory is asked for before work: what a run will need on this host, against what the host has. */
import { launcherLocalSize, launcherRank, launcherSize } from "../comm/mpi/library.js";
import type { LineEvent } from "../launch/job.js";
import { checkRanks } from "../launch/threads.js";
import {
  type MemoryNeed,
  type MemoryOptions,
  type RankPlaces,
  checkMemory,
  thisHost,
} from "../run/memory-need.js";
import { openModel } from "../run/open-model.js";
import { type ModelConfig, type ModelInput, modelToJson } from "../model/config.js";

/**
 * Where the ranks of a launch will be.
 * @throws InputError when their number is none
 */
export function rankPlaces(ranks = 1): RankPlaces {
  const size = launcherSize();
  if (size !== undefined) return { ranks: size, inProcess: 1 };
  checkRanks(ranks);
  return { ranks, inProcess: ranks };
}

/**
 * Says what a run will need, as a message.
 * @throws InputError when this host does not have it, unless that is to be ignored
 */
export function announceMemory(
  need: MemoryNeed,
  options: MemoryOptions & { readonly onEvent?: ((event: LineEvent) => void) | undefined },
): void {
  const line = checkMemory(need, thisHost(launcherLocalSize()), options);
  if (launcherSize() === undefined || launcherRank() === 0) options.onEvent?.({ kind: "message", line });
}

/** As `modelAt`, as it is written. */
export function modelInputAt(path: string): ModelInput {
  return modelToJson(modelAt(path)) as unknown as ModelInput;
}

/** The model of a run, a checkpoint or a published folder. @throws InputError when it is missing, damaged or not supported */
export function modelAt(path: string): ModelConfig {
  const model = openModel(path);
  model.close();
  return model.config;
}
