/** Memory of one device of a cluster, from a model and its layout alone. */
import { numElements } from "../core/tensor.js";
import type { Symbols } from "../kernel/symbols.js";
import { type TensorRun, bucketsOf, localParameters } from "../model/buckets.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { peakMemory } from "./peak-memory.js";

/** Bytes that a rank needs on its device. */
export interface DeviceMemory {
  readonly weights: number;
  readonly gradients: number;
  /** Two moments, and beside 2-byte weights a copy in f32. */
  readonly optimizer: number;
  /** Most that the values of a micro-batch need at a time. */
  readonly activations: number;
  /** Intermediate results of the largest operator, and gradients on their way. */
  readonly buffers: number;
  readonly total: number;
}

/** What is there before and after every micro-batch. */
export type StateMemory = Pick<DeviceMemory, "weights" | "gradients" | "optimizer">;

export interface DeviceLayout {
  readonly mode: "train" | "forward";
  readonly ranks: number;
  readonly epSize: number;
  /** Bytes of a weight, a gradient, an element of activations. */
  readonly elementBytes: 2 | 4;
  /** Moments of what all ranks have are spread over them (ZeRO-1). */
  readonly zero: boolean;
}

/** Of a device's memory; the driver, the communication library and what allocators waste take the rest (assumed). */
const USABLE = 0.9;

/** Bytes of a device that a rank may fill. */
export function usableBytes(memoryBytes: number): number {
  return USABLE * memoryBytes;
}

/** A rank's parameters in the buckets that training would have. */
export function rankBuckets(parameters: readonly ParameterInfo[], epSize: number): TensorRun[] {
  return bucketsOf(parameters, { epRank: 0, epSize });
}

/** Bytes of weights, gradients and optimiser states of a rank. */
export function stateMemory(parameters: readonly ParameterInfo[], layout: DeviceLayout): StateMemory {
  const { mode, ranks, epSize, elementBytes, zero } = layout;
  const runs = rankBuckets(parameters, epSize);
  const trained = runs.reduce((sum, { size }) => sum + size, 0);
  const untrained = localParameters(parameters, { epRank: 0, epSize }).filter(({ buffer }) => buffer);
  const weights = untrained.reduce((sum, { dims }) => sum + numElements(dims) * 4, trained * elementBytes);
  if (mode === "forward") return { weights, gradients: 0, optimizer: 0 };
  const owned = runs.reduce(
    (sum, { kind, size }) => sum + (zero && kind === "replicated" ? Math.ceil(size / ranks) : size),
    0,
  );
  return { weights, gradients: trained * elementBytes, optimizer: owned * optimizerBytes(elementBytes) };
}

/** Bytes of optimiser state per weight. */
export function optimizerBytes(elementBytes: 2 | 4): number {
  return elementBytes === 2 ? 12 : 8;
}

/**
 * All that a rank needs while it runs a program. Attention holds no scores of whole sequences, and rows are spread evenly.
 * @param of the program of a micro-batch, without reduction; `keep`: values that are read afterwards
 */
export function deviceMemory(
  parameters: readonly ParameterInfo[],
  layout: DeviceLayout,
  of: {
    readonly program: Program;
    readonly schedule: Schedule;
    readonly keep: ReadonlySet<number>;
    readonly symbols: Symbols;
  },
): DeviceMemory {
  const { mode, ranks, epSize, elementBytes } = layout;
  const states = stateMemory(parameters, layout);
  const peak = peakMemory(of.program, of.schedule, of);
  // Programs count f32.
  const activations = (peak.bytes * elementBytes) / 4;
  const largest = Math.max(0, ...rankBuckets(parameters, epSize).map(({ size }) => size * elementBytes));
  // One bucket arrives while the one before it is summed.
  const reduced = mode === "train" && ranks > 1 ? 2 * largest : 0;
  const buffers = (peak.engineBytes * elementBytes) / 4 + reduced;
  const { weights, gradients, optimizer } = states;
  return {
    ...states,
    activations,
    buffers,
    total: weights + gradients + optimizer + activations + buffers,
  };
}
