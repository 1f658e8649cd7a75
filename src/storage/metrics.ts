/** metrics.jsonl: one JSON object per line, appended. */
import { openSync } from "node:fs";
import { appendBytes, closeRead, exists, readAt, reading, replaceFile } from "./files.js";

export interface MetricRow {
  readonly step: number;
  readonly [name: string]: unknown;
}

export interface Metrics {
  append(row: MetricRow): void;
  /** Lines that were damaged, and are gone. */
  readonly numDamaged: number;
}

/** Bytes read at a time: the file of a long run is longer than any string. */
const PIECE = 1 << 24;
const NEW_LINE = 10;

/**
 * Opens for appending after `lastStep`: later rows, and a last line cut off by a crash, are removed. So are damaged lines
 * between good ones, which stay; they are counted.
 * @throws InputError when the file cannot be read, EnvironmentError when the disk fails
 */
export function openMetrics(path: string, lastStep: number): Metrics {
  const append: Metrics["append"] = (row) =>
    appendBytes(path, new TextEncoder().encode(`${JSON.stringify(row)}\n`));
  if (!exists(path)) return { append, numDamaged: 0 };
  let [numDamaged, numLost] = [0, 0];
  for (const { step, isWhole } of lines(path)) {
    if (step === undefined && isWhole) numDamaged++;
    if (step === undefined || step > lastStep || !isWhole) numLost++;
  }
  if (numLost > 0) replaceFile(path, keptLines(path, lastStep));
  return { append, numDamaged };
}

function* keptLines(path: string, lastStep: number): Generator<Uint8Array> {
  for (const { step, isWhole, bytes } of lines(path))
    if (step !== undefined && step <= lastStep && isWhole) yield bytes;
}

interface Line {
  /** With the line's end. */
  readonly bytes: Uint8Array;
  /** Undefined when it is damaged. */
  readonly step: number | undefined;
  /** Whether it has an end: the last line may have been cut off. */
  readonly isWhole: boolean;
}

function* lines(path: string): Generator<Line> {
  const lineOf = (bytes: Uint8Array, isWhole = true): Line => ({
    bytes,
    isWhole,
    step: rowOf(new TextDecoder().decode(bytes))?.step,
  });
  let rest = new Uint8Array();
  for (const piece of pieces(path)) {
    const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let at = 0;
    for (let end: number; (end = bytes.indexOf(NEW_LINE, at)) >= 0; at = end + 1)
      yield lineOf(bytes.subarray(at, end + 1));
    rest = bytes.slice(at);
  }
  if (rest.length > 0) yield lineOf(rest, false);
}

/** @throws InputError, EnvironmentError */
function* pieces(path: string): Generator<Uint8Array> {
  const file = reading(path, () => openSync(path, "r"));
  try {
    for (let at = 0; ;) {
      const piece = reading(path, () => readAt(file, at, PIECE));
      if (piece.length === 0) return;
      yield piece;
      at += piece.length;
    }
  } finally {
    closeRead(file);
  }
}

function rowOf(line: string): MetricRow | undefined {
  try {
    const row = JSON.parse(line) as Partial<MetricRow> | null;
    return Number.isInteger(row?.step) ? (row as MetricRow) : undefined;
  } catch {
    return undefined;
  }
}
