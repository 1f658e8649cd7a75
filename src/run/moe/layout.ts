/**
 * Where each routed row lies (method 6.3). At the tokens' rank, the rows of a chunk form one buffer: a region per
 * destination rank, in it the rows of each of its experts in the order in which they were taken. At the experts' rank, a
 * region per source rank, sorted the same way.
 */
import type { MoeShape } from "../../program/kinds.js";
import type { Routing } from "./routing.js";

export function rowBytes(shape: MoeShape): number {
  return shape.width * (shape.wire === "bf16" ? 2 : 4);
}

export function localExperts(shape: MoeShape): number {
  return shape.numExperts / shape.epSize;
}

/** Tokens [start, end) of a chunk. */
function chunkRange(numTokens: number, chunk: number, chunks: number): { start: number; end: number } {
  return {
    start: Math.floor((numTokens * chunk) / chunks),
    end: Math.floor((numTokens * (chunk + 1)) / chunks),
  };
}

/** The token side of one chunk of a routing. */
export interface TokenSide {
  readonly start: number;
  readonly end: number;
  readonly numRows: number;
  /** [epSize] first row and rows of each destination's region. */
  readonly regionStart: readonly number[];
  readonly rowsTo: readonly number[];
  /** [N] rows sent to each expert. */
  readonly counts: Int32Array;
  /** [numRows] token of each row. */
  readonly token: Int32Array;
  /** [tokens of the chunk, K] row of each choice in the buffer, −1 when dropped. */
  readonly rowOf: Int32Array;
}

export function tokenSide(routing: Routing, shape: MoeShape, chunk: number, chunks: number): TokenSide {
  const { topK: K, numExperts: N, choice, rowInExpert } = routing;
  const { start, end } = chunkRange(routing.numTokens, chunk, chunks);
  const counts = new Int32Array(N);
  for (let i = start * K; i < end * K; i++) if (rowInExpert[i] >= 0) counts[choice[i]]++;
  const local = localExperts(shape);
  const regionStart: number[] = [];
  const rowsTo: number[] = [];
  const next = new Int32Array(N);
  let row = 0;
  for (let expert = 0; expert < N; expert++) {
    if (expert % local === 0) {
      regionStart.push(row);
      rowsTo.push(0);
    }
    next[expert] = row;
    row += counts[expert];
    rowsTo[rowsTo.length - 1] += counts[expert];
  }
  const token = new Int32Array(row);
  const rowOf = new Int32Array((end - start) * K).fill(-1);
  for (let j = 0; j < K; j++) {
    for (let t = start; t < end; t++) {
      if (rowInExpert[t * K + j] < 0) continue;
      const at = next[choice[t * K + j]]++;
      token[at] = t;
      rowOf[(t - start) * K + j] = at;
    }
  }
  return { start, end, numRows: row, regionStart, rowsTo, counts, token, rowOf };
}

/** The expert side of one chunk: how many rows came from whom for which local expert. */
export interface ExpertSide {
  /** [epSize][local experts] */
  readonly counts: readonly Int32Array[];
  /** [epSize] rows from each source. */
  readonly rowsFrom: readonly number[];
  readonly numRows: number;
}

export function expertSide(counts: readonly Int32Array[]): ExpertSide {
  const rowsFrom = counts.map((c) => c.reduce((a, b) => a + b, 0));
  return { counts, rowsFrom, numRows: rowsFrom.reduce((a, b) => a + b, 0) };
}

/** Runs of rows to copy between the layout by source ("bySource") and the layout by expert. */
export interface RowRun {
  readonly bySource: number;
  readonly byExpert: number;
  readonly numRows: number;
}

/** @param regionStart [epSize] first row of each source's rows in the by-source buffer */
export function permutation(side: ExpertSide, regionStart: readonly number[]): readonly RowRun[] {
  const numLocal = side.counts[0].length;
  const next = [...regionStart];
  const runs: RowRun[] = [];
  const sourceStart = side.counts.map((counts, source) =>
    Array.from(counts, (count) => {
      const at = next[source];
      next[source] += count;
      return at;
    }),
  );
  let byExpert = 0;
  for (let e = 0; e < numLocal; e++) {
    side.counts.forEach((counts, source) => {
      if (counts[e] > 0) runs.push({ bySource: sourceStart[source][e], byExpert, numRows: counts[e] });
      byExpert += counts[e];
    });
  }
  return runs;
}

/** [local experts + 1] first row of each expert in the by-expert layout. */
export function expertOffsets(side: ExpertSide): readonly number[] {
  const numLocal = side.counts[0].length;
  const offsets = [0];
  for (let e = 0; e < numLocal; e++)
    offsets.push(offsets[e] + side.counts.reduce((sum, counts) => sum + counts[e], 0));
  return offsets;
}

/** [epSize] first rows when the sources' rows lie one after another. */
export function packedStarts(side: ExpertSide): readonly number[] {
  let at = 0;
  return side.rowsFrom.map((rows) => (at += rows) - rows);
}
