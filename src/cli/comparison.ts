/** A comparison as a table, and as files: timelines and a chart. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { BASELINES, type BaselineName, type CompareResult, type CompareRow } from "../bench/compare.js";
import { formatLink } from "../comm/link.js";
import { replaceFile } from "../storage/files.js";
import { chromeTrace } from "../timeline/chrome-trace.js";
import { speedChart } from "../timeline/speed-chart.js";
import { timelineHtml } from "../timeline/timeline-html.js";
import { formatTable, markdownTable } from "./options.js";

interface Column {
  readonly name: string;
  readonly text: (row: CompareRow) => string;
  /** Columns that say nothing about any row are left out. */
  readonly isWanted?: (rows: readonly CompareRow[]) => boolean;
}

const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
const tenths = (ms: number): string => ms.toFixed(1);

const COLUMNS: readonly Column[] = [
  { name: "mode", text: (row) => row.mode },
  { name: "architecture", text: (row) => row.arch },
  { name: "policy", text: (row) => row.policy },
  { name: "step ms", text: (row) => tenths(row.stepMs) },
  { name: "±", text: (row) => tenths(row.spreadMs) },
  ...(Object.keys(BASELINES) as BaselineName[]).map((name): Column => ({
    name: `× ${name}`,
    text: (row) => row.speedUp[name]?.toFixed(2) ?? "–",
    isWanted: (rows) => rows.some((row) => row.speedUp[name] !== undefined),
  })),
  { name: "compute", text: (row) => tenths(row.computeMs) },
  { name: "communication", text: (row) => tenths(row.communicationMs) },
  { name: "exposed", text: (row) => tenths(row.exposedMs) },
  { name: "late", text: (row) => tenths(row.lateMs) },
  { name: "hidden", text: (row) => (row.communicationMs === 0 ? "–" : percent(row.overlapShare)) },
  {
    name: "reduction",
    text: (row) => (row.reductionMs === undefined ? "–" : tenths(row.reductionMs)),
    isWanted: (rows) => rows.some((row) => row.reductionMs !== undefined),
  },
  { name: "predicted", text: (row) => tenths(row.predictedMs) },
  { name: "off", text: (row) => `${signed((row.predictedMs / row.stepMs - 1) * 100)} %` },
  { name: "bound", text: (row) => tenths(row.lowerBoundMs) },
];

function signed(value: number): string {
  const text = value.toFixed(0);
  return value > 0 && text !== "0" ? `+${text}` : text.replace(/^-0$/, "0");
}

export function comparisonTable({ rows }: CompareResult, markdown: boolean): string {
  const columns = COLUMNS.filter(({ isWanted }) => isWanted?.(rows) ?? true);
  return (markdown ? markdownTable : formatTable)(
    columns.map(({ name }) => name),
    rows.map((row) => columns.map(({ text }) => text(row))),
  );
}

/** What the table cannot hold: link, placements, warnings, the timeline's own cost. */
export function comparisonNotes({ rows, link, communicationShare, ranks }: CompareResult): string[] {
  const share = communicationShare === null ? "" : `; communication ${percent(communicationShare)} of top-2`;
  const costly = rows.reduce((a, b) => (b.timelineShare > a.timelineShare ? b : a));
  return [
    `${ranks} ranks${link === null ? "" : `, link ${formatLink(link)}`}${share}`,
    ...rows
      .filter((row) => row.policy.startsWith("adaptive"))
      .map((row) => `${row.mode} ${row.arch}: ${row.note}`),
    ...rows.flatMap(({ mode, arch, policy, warning }) =>
      warning === undefined ? [] : [`${mode} ${arch} ${policy}: ${warning}`],
    ),
    `the timeline, always on, takes at most ${(costly.timelineShare * 100).toFixed(2)} % of a step (${costly.mode} ${costly.arch})`,
  ];
}

/** @throws EnvironmentError when the directory cannot be written */
export function writeComparison(directory: string, result: CompareResult): void {
  mkdirSync(directory, { recursive: true });
  const titled = result.timelines.map((pair, i) => {
    const { arch, policy, mode } = result.rows[i];
    return { title: `${mode} · ${arch} · ${policy}`, ...pair };
  });
  const files = {
    "timeline.html": timelineHtml(titled),
    "timeline.json": JSON.stringify(chromeTrace(titled)),
    "chart.svg": speedChart(result.rows.map((row) => ({ ...row, speedUp: row.speedUp["top-2 sequential"] }))),
  };
  for (const [name, text] of Object.entries(files)) replaceFile(join(directory, name), text);
}
