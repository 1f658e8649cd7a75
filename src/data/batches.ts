/** Which tokens a micro-batch holds: a pure function of (seed, step, micro-batch, rank); resuming needs nothing else (method 9.5). */
import { InputError } from "../core/errors.js";
import { philox } from "../core/rng.js";
import type { TokenFile } from "./token-file.js";

export interface BatchShape {
  readonly sequence: number;
  /** Sequences per rank and micro-batch. */
  readonly batch: number;
  readonly ranks: number;
  readonly microBatches: number;
  readonly seed: number;
}

export interface Batch {
  /** [batch · sequence] inputs, and the tokens that follow them. */
  readonly tokens: Int32Array;
  readonly labels: Int32Array;
  /** Index of the first token in the micro-batch of all ranks together. */
  readonly firstToken: number;
}

/** Windows of sequence + 1 tokens that begin every `sequence` tokens. @throws InputError when there is not even one */
export function numWindows(file: TokenFile, sequence: number): number {
  const count = Math.floor((file.length - 1) / sequence);
  if (count < 1)
    throw new InputError(
      `${file.path} holds ${file.length} tokens, fewer than one sequence of ${sequence} + 1; use more text or a shorter sequence`,
    );
  return count;
}

/** Training batch: windows shuffled anew every epoch; N ranks together see exactly the batch of one rank N times as large. */
export function trainBatch(
  file: TokenFile,
  shape: BatchShape,
  at: { step: number; micro: number; rank: number },
): Batch {
  const windows = numWindows(file, shape.sequence);
  const perMicro = shape.batch * shape.ranks;
  const first = (at.step * shape.microBatches + at.micro) * perMicro + at.rank * shape.batch;
  const order = philox(shape.seed, "shuffle");
  const chosen = Array.from({ length: shape.batch }, (_, i) => {
    const index = first + i;
    return order.permute(index % windows, windows, Math.floor(index / windows));
  });
  return { ...readWindows(file, shape.sequence, chosen), firstToken: at.rank * shape.batch * shape.sequence };
}

/** Evaluation batch: consecutive windows from the start, dealt to ranks in turn. */
export function evalBatch(
  file: TokenFile,
  shape: Omit<BatchShape, "microBatches" | "seed">,
  index: number,
  rank: number,
): Batch {
  const windows = numWindows(file, shape.sequence);
  const first = (index * shape.ranks + rank) * shape.batch;
  const chosen = Array.from({ length: shape.batch }, (_, i) => (first + i) % windows);
  return { ...readWindows(file, shape.sequence, chosen), firstToken: rank * shape.batch * shape.sequence };
}

function readWindows(
  file: TokenFile,
  sequence: number,
  windows: readonly number[],
): { tokens: Int32Array; labels: Int32Array } {
  const tokens = new Int32Array(windows.length * sequence);
  const labels = new Int32Array(windows.length * sequence);
  const row = new Int32Array(sequence + 1);
  windows.forEach((window, b) => {
    file.read(window * sequence, row);
    tokens.set(row.subarray(0, sequence), b * sequence);
    labels.set(row.subarray(1), b * sequence);
  });
  return { tokens, labels };
}
