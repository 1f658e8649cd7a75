/** What a run will need, said before it takes it, and refused where this machine does not have it. */
import { type AvailableMemory, availableMemory } from "../core/available-memory.js";
import { InputError } from "../core/errors.js";

/** Bytes of one rank. */
export interface RankMemory {
  readonly weights: number;
  readonly gradients: number;
  readonly moments: number;
  /** Peak of activations, with what kernels' stages hand to each other, rows spread evenly over the ranks. */
  readonly activations: number;
  /** onnxruntime's own memory for graphs' intermediate results. */
  readonly buffers: number;
  /** A rank's thread: JavaScript heap, compiled kernels, text that is prepared. */
  readonly base: number;
}

/** Bytes of a run, on ranks of one process. */
export interface MemoryNeed extends RankMemory {
  readonly perRank: number;
  /** Ranks in a process: all of them as threads, one under MPI. */
  readonly ranks: number;
  /** All ranks of a process, and what it holds once: Node and libraries. */
  readonly process: number;
  /** As `activations`, if all ranks sent all their rows to the experts of one. */
  readonly worstActivations: number;
}

/** What to do where there is too little memory. */
export interface MemoryOptions {
  /** Goes on although the memory that it will need is not there. Default: refuses before anything is written. */
  readonly ignoreMemory?: boolean | undefined;
}

/** Node with this program's modules; the libraries of onnxruntime and koffi; the first thread's heap. */
const PROCESS_BYTES = 115e6;

/**
 * onnxruntime takes pieces as large as they are asked for and keeps them; a later one finds no room among smaller ones. What
 * it holds is by measurement half as much again as the graph that needs most.
 */
const PIECES = 1.5;

/** A rank's thread: a JavaScript heap with the modules in it, onnxruntime's sessions. */
const THREAD_BYTES = 75e6;

/** The thread of a rank that only infers: it has no batches to prepare, and one session. */
const INFERENCE_THREAD_BYTES = 35e6;

/** The same where it has no thread of its own: the process's heap is counted already. */
const INFERENCE_BESIDE_BYTES = 20e6;

/** MPI's library and its buffers. */
const MPI_BYTES = 20e6;

/** Where ranks are. */
export interface RankPlaces {
  readonly ranks: number;
  /** Ranks in a process: all of them as threads, one under MPI. */
  readonly inProcess: number;
}

/** What a rank's thread needs for itself. @param textBytes of a corpus that it reads */
export function rankBase(places: RankPlaces, textBytes: number): number {
  return THREAD_BYTES + mpiBytes(places) + textBytes;
}

/** The same of a rank that only infers. @param thread whose it is: the rank's, or the process's */
export function inferenceRankBase(places: RankPlaces, thread: "own" | "process"): number {
  return (thread === "own" ? INFERENCE_THREAD_BYTES : INFERENCE_BESIDE_BYTES) + mpiBytes(places);
}

function mpiBytes({ ranks, inProcess }: RankPlaces): number {
  return inProcess < ranks ? MPI_BYTES : 0;
}

/**
 * A need from its parts.
 * @param rank `graphBytes`: most that one graph needs for its intermediate results
 * @param onceBytes what the process holds beside its ranks, a tokenizer for instance
 */
export function memoryNeed(
  rank: Omit<RankMemory, "buffers"> & { readonly graphBytes: number },
  of: { readonly ranks: number; readonly worstActivations: number },
  onceBytes = 0,
): MemoryNeed {
  const { graphBytes, ...parts } = rank;
  const buffers = PIECES * graphBytes;
  const { weights, gradients, moments, activations, base } = parts;
  const perRank = weights + gradients + moments + activations + buffers + base;
  return { ...parts, buffers, ...of, perRank, process: PROCESS_BYTES + onceBytes + of.ranks * perRank };
}

/** Where a run's processes are, and what they find there. */
export interface Host {
  /** Processes of the run on this host, which share its memory. */
  readonly processes: number;
  readonly available: AvailableMemory;
  /** What this process holds already. */
  readonly residentBytes: number;
}

/** This host. @param processes of the run on it */
export function thisHost(processes = 1): Host {
  return { processes, available: availableMemory(), residentBytes: process.memoryUsage.rss() };
}

/**
 * What a run will need, as one line.
 * @throws InputError with the figures when the host does not have it
 */
export function checkMemory(
  need: MemoryNeed,
  host: Host,
  { ignoreMemory = false }: MemoryOptions = {},
): string {
  const { available, processes, residentBytes } = host;
  const wanted = processes * need.process;
  // Processes of one run start together and hold about the same by now.
  const there = available.bytes + processes * residentBytes;
  const fits = wanted <= there;
  if (!fits && !ignoreMemory)
    throw new InputError(
      `${totalOf(need, processes)} memory: ${partsOf(need)} each; ${size(there)} are ${available.source}. ${advice(need)}, or go on regardless with --ignore-memory (ignoreMemory)`,
    );
  const worst = need.worstActivations - need.activations;
  return [
    `Memory per rank: ${partsOf(need)}: ${size(need.perRank)}`,
    `${totalOf(need, processes)} of ${size(there)} ${available.source}${fits ? "" : ", which is too little"}`,
    ...(worst > need.perRank / 10 ? [`were all rows routed to one rank, ${size(worst)} more on it`] : []),
  ].join("; ");
}

function totalOf({ ranks, process }: MemoryNeed, processes: number): string {
  const all = ranks * processes;
  return `${all} ${all === 1 ? "rank needs" : "ranks need"} ${size(processes * process)}`;
}

const PARTS = ["weights", "gradients", "moments", "activations", "buffers", "base"] as const;

function partsOf(need: RankMemory): string {
  return PARTS.filter((part) => need[part] > 0)
    .map((part) => `${part} ${size(need[part])}`)
    .join(", ");
}

function advice({ weights, gradients, moments, activations, buffers }: RankMemory): string {
  const isTraining = gradients > 0;
  if (activations + buffers < weights + gradients + moments)
    return isTraining
      ? "Use a smaller model, more hosts, or parallel.zero"
      : "Use a smaller model or a machine with more memory";
  return isTraining
    ? "Use a smaller train.micro_batch_size with train.micro_batches_at_once=1, a smaller data.sequence_length, or train.recompute"
    : "Use fewer or shorter sequences at a time";
}

function size(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${Math.round(bytes / 1e6)} MB`;
}
