/** What `plan --search` prints. */
import type { LayoutRow, SearchResult } from "../api/plan-search.js";
import { capacityOf, gigabytes, partsOfMemory } from "./plan-memory.js";
import { type Column, columnTable, percent } from "./options.js";

const COLUMNS: readonly Column<LayoutRow>[] = [
  { name: "arch", text: (row) => row.arch },
  { name: "policy", text: (row) => row.policy },
  { name: "EP", text: (row) => `${row.epSize}` },
  { name: "DP", text: (row) => `${row.replicas}` },
  { name: "micro-batch", text: (row) => `${row.microBatches} × ${row.microBatch}` },
  { name: "step ms", text: (row) => row.stepMs.toFixed(1) },
  { name: "tokens/s", text: (row) => row.tokensPerSecond.toPrecision(4) },
  { name: "micro-batch ms", text: (row) => row.microBatchMs.toFixed(1) },
  { name: "hidden", text: (row) => percent(row.overlapShare) },
  { name: "with update, reduction", text: (row) => row.reducedMs.toFixed(1) },
  { name: "memory", text: (row) => gigabytes(row.memory.total) },
];

/** @param of what was searched, for people */
export function layoutTable(
  { rows, cluster, layouts, tooLarge, simulated }: SearchResult,
  of: string,
  markdown = false,
): string {
  const [best] = rows;
  const ruledOut = layouts - tooLarge - simulated;
  return [
    of,
    columnTable(COLUMNS, rows, markdown),
    "",
    `${layouts} layouts: ${simulated} simulated, ${tooLarge} too large, ${ruledOut} ruled out by a bound`,
    `memory per rank of the first: ${partsOfMemory(best.memory)} ${capacityOf(cluster)}`,
    `constants: ${cluster.source}; achieved shares: compute ${cluster.computeEfficiency}, links ${cluster.linkEfficiency}`,
  ].join("\n");
}
