/** What a forward pass will need on each rank, from the config alone: nothing is allocated or compiled for it. */
import { numElements } from "../core/tensor.js";
import type { WeightForm } from "../kernel/quantise.js";
import { type TensorRun, bucketsOf, localParameters } from "../model/buckets.js";
import type { ModelConfig } from "../model/config.js";
import { type ProgramOptions, buildProgram } from "../model/language-model.js";
import { listParameters } from "../model/parameters.js";
import type { Spread } from "../program/footprint.js";
import { sequential } from "../schedule/sequential.js";
import { heldWeights } from "./held-weights.js";
import { type MemoryNeed, type RankPlaces, memoryNeed } from "./memory-need.js";
import { type PeakMemory, peakMemory } from "./peak-memory.js";
import { expertParallelSize } from "./rank.js";

/** Weights of the rank that has most. */
export interface WeightNeed {
  readonly epSize: number;
  readonly runs: readonly TensorRun[];
  /** Trained weights, and all of them. */
  readonly trainedBytes: number;
  readonly bytes: number;
}

/** @throws InputError as `expertParallelSize` */
export function weightNeed(
  config: ModelConfig,
  of: { readonly ranks: number; readonly wanted?: number | undefined },
): WeightNeed {
  const parameters = listParameters(config);
  const epSize = expertParallelSize(parameters, { config, ranks: of.ranks, wanted: of.wanted });
  const layout = { epRank: 0, epSize };
  const runs = bucketsOf(parameters, layout);
  const buffers = localParameters(parameters, layout).filter(({ buffer }) => buffer);
  const trainedBytes = runs.reduce((sum, { size }) => sum + size * 4, 0);
  const bytes = buffers.reduce((sum, { dims }) => sum + numElements(dims) * 4, trainedBytes);
  return { epSize, runs, trainedBytes, bytes };
}

/** Peaks with rows spread evenly, and all routed to one expert. */
export function peaks(of: (spread: Spread) => PeakMemory): {
  readonly even: PeakMemory;
  readonly worst: PeakMemory;
} {
  return { even: of("even"), worst: of("one expert") };
}

export function forwardPeaks(config: ModelConfig, options: ProgramOptions): ReturnType<typeof peaks> {
  const { program, symbols, output } = buildProgram(config, options);
  const schedule = sequential(program);
  const keep = new Set([output]);
  return peaks((spread) => peakMemory(program, schedule, { keep, symbols, spread }));
}

/** @throws InputError when the ranks do not divide the experts */
export function inferenceNeed(
  config: ModelConfig,
  of: Omit<ProgramOptions, "epSize" | "ranks"> &
    RankPlaces & {
      /** What a rank's thread needs for itself. */
      readonly base: number;
      /** Ranks that share one copy of the experts; default all. */
      readonly epSize?: number;
      /** Weights are fixed in this form and streamed; default: kept in buckets. */
      readonly form?: WeightForm | undefined;
    },
): MemoryNeed {
  const { ranks, inProcess, base, epSize: wanted, form, ...program } = of;
  const { epSize, bytes } = weightNeed(config, { ranks, wanted });
  const { even, worst } = forwardPeaks(config, { ...program, epSize });
  const { heldBytes, readingBytes } =
    form === undefined
      ? { heldBytes: bytes, readingBytes: 0 }
      : heldWeights(buildProgram(config, { ...program, epSize }).program, form, listParameters(config));
  const rank = {
    weights: heldBytes,
    gradients: 0,
    moments: 0,
    // Weights are read before there are activations.
    activations: Math.max(even.bytes, readingBytes),
    graphBytes: even.engineBytes,
    base,
  };
  return memoryNeed(rank, { ranks: inProcess, worstActivations: worst.bytes });
}
