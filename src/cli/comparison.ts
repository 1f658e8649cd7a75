/** A comparison as a table, and as files: timelines and a chart. */
import { join } from "node:path";
import { BASELINES, type BaselineName, type CompareResult, type CompareRow } from "../bench/compare.js";
import { formatLink } from "../comm/link.js";
import { makeDirectory, replaceFile } from "../storage/files.js";
import { type TitledTimelines, chromeTrace } from "../timeline/chrome-trace.js";
import { type ChartRow, speedChart } from "../timeline/speed-chart.js";
import { timelineHtml } from "../timeline/timeline-html.js";
import { type Column, columnTable, percent } from "./options.js";

const tenths = (ms: number): string => ms.toFixed(1);

const COLUMNS: readonly Column<CompareRow>[] = [
  { name: "mode", text: (row) => row.mode },
  { name: "architecture", text: (row) => row.arch },
  { name: "policy", text: (row) => row.policy },
  { name: "step ms", text: (row) => tenths(row.stepMs) },
  { name: "±", text: (row) => tenths(row.spreadMs) },
  ...(Object.keys(BASELINES) as BaselineName[]).map((name): Column<CompareRow> => ({
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
  { name: "drift", text: (row) => `${signed(row.driftShare * 100)} %` },
  { name: "bound", text: (row) => tenths(row.lowerBoundMs) },
];

function signed(value: number): string {
  const text = value.toFixed(0);
  return value > 0 && text !== "0" ? `+${text}` : text.replace(/^-0$/, "0");
}

export function comparisonTable({ rows }: CompareResult, markdown: boolean): string {
  return columnTable(COLUMNS, rows, markdown);
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
  const titled = result.timelines.map((pair, i) => {
    const { arch, policy, mode } = result.rows[i];
    return { title: `${mode} · ${arch} · ${policy}`, ...pair };
  });
  const charted = result.rows.map((row) => ({ ...row, speedUp: row.speedUp["top-2 sequential"] }));
  writePictures(directory, titled, charted);
}

/** Timelines to look at and for Perfetto, and a chart of speed-ups. @throws EnvironmentError */
export function writePictures(
  directory: string,
  titled: readonly TitledTimelines[],
  charted: readonly ChartRow[],
): void {
  makeDirectory(directory);
  const files = {
    "timeline.html": timelineHtml(titled),
    "timeline.json": JSON.stringify(chromeTrace(titled)),
    "chart.svg": speedChart(charted),
  };
  for (const [name, text] of Object.entries(files)) replaceFile(join(directory, name), text);
}
