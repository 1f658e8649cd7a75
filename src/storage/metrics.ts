/** metrics.jsonl: one JSON object per line, appended. */
import { existsSync, readFileSync } from "node:fs";
import { appendBytes, replaceFile } from "./files.js";

export interface MetricRow {
  readonly step: number;
  readonly [name: string]: unknown;
}

/** Opens for appending after `lastStep`: later rows, and a last line cut off by a crash, are removed. */
export function openMetrics(path: string, lastStep: number): { append(row: MetricRow): void } {
  if (existsSync(path)) {
    const kept = readMetrics(path).filter((row) => row.step <= lastStep);
    replaceFile(path, kept.map((row) => `${JSON.stringify(row)}\n`).join(""));
  }
  return { append: (row) => appendBytes(path, new TextEncoder().encode(`${JSON.stringify(row)}\n`)) };
}

export function readMetrics(path: string): MetricRow[] {
  const rows: MetricRow[] = [];
  for (const line of readFileSync(path, "utf8").split("\n")) {
    try {
      if (line !== "") rows.push(JSON.parse(line) as MetricRow);
    } catch {
      break;
    }
  }
  return rows;
}
