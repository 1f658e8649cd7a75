/** Which tokens a micro-batch holds: a pure function of (seed, position, micro-batch, rank); resuming needs nothing else (method 9.5). */
import { InputError } from "../core/errors.js";
import { philox } from "../core/rng.js";
import type { TokenFile } from "./token-file.js";

export interface BatchShape {
  readonly sequence: number;
  /** Sequences per rank and micro-batch. */
  readonly batch: number;
  readonly ranks: number;
  readonly seed: number;
  /** The token that ends a document; where it is given, a batch says where documents begin. */
  readonly endOfText?: number | undefined;
}

export interface Batch {
  /** [batch · sequence] inputs, and the tokens that follow them. */
  readonly tokens: Int32Array;
  readonly labels: Int32Array;
  /** Index of the first token among those of the step. */
  readonly firstToken: number;
  /** Where in its sequence the document of each token begins, [batch · sequence]. */
  readonly starts?: Int32Array;
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

/**
 * Training batch: windows shuffled anew every epoch; N ranks together see exactly the batch of one rank N times as large.
 * @param at `position`: sequences taken by the steps before
 */
export function trainBatch(
  file: TokenFile,
  shape: BatchShape,
  at: { readonly position: number; readonly micro: number; readonly rank: number },
): Batch {
  const windows = numWindows(file, shape.sequence);
  const inStep = (at.micro * shape.ranks + at.rank) * shape.batch;
  const order = philox(shape.seed, "shuffle");
  const chosen = Array.from({ length: shape.batch }, (_, i) => {
    const index = at.position + inStep + i;
    return order.permute(index % windows, windows, Math.floor(index / windows));
  });
  return { ...readWindows(file, shape, chosen), firstToken: inStep * shape.sequence };
}

/** Some windows for evaluation, in order. `real` of them count; what fills the batch up is the last again. */
export function evalBatch(
  file: TokenFile,
  shape: Pick<BatchShape, "sequence" | "batch" | "endOfText">,
  windows: { readonly first: number; readonly real: number },
): Omit<Batch, "firstToken"> {
  const { first, real } = windows;
  const last = first + Math.max(0, real - 1);
  const chosen = Array.from({ length: shape.batch }, (_, i) => Math.min(first + i, last));
  return readWindows(file, shape, chosen);
}

function readWindows(
  file: TokenFile,
  { sequence, endOfText }: Pick<BatchShape, "sequence" | "endOfText">,
  windows: readonly number[],
): Omit<Batch, "firstToken"> {
  const tokens = new Int32Array(windows.length * sequence);
  const labels = new Int32Array(windows.length * sequence);
  const row = new Int32Array(sequence + 1);
  windows.forEach((window, b) => {
    file.read(window * sequence, row);
    tokens.set(row.subarray(0, sequence), b * sequence);
    labels.set(row.subarray(1), b * sequence);
  });
  if (endOfText === undefined) return { tokens, labels };
  return { tokens, labels, starts: documentStarts(tokens, sequence, endOfText) };
}

/**
 * Where in its sequence the document of each token begins: at the sequence's first token, or behind the last `endOfText` before the
 * token (which belongs to the document that it ends).
 * @param tokens [B · sequence]
 */
export function documentStarts(tokens: Int32Array, sequence: number, endOfText: number): Int32Array {
  let start = 0;
  return tokens.map((_, t) => {
    const place = t % sequence;
    if (place === 0) start = 0;
    else if (tokens[t - 1] === endOfText) start = place;
    return start;
  });
}
