/** Step times as bars in a self-contained SVG: compute, and what was spent waiting for the network. */
import { escapeXml, svgDocument } from "./svg.js";

/** One bar: times in ms, speed-up over the baseline. */
export interface ChartRow {
  readonly arch: string;
  readonly policy: string;
  readonly mode: string;
  readonly stepMs: number;
  readonly spreadMs?: number;
  readonly exposedMs: number;
  /** Where measured. */
  readonly predictedMs?: number;
  /** Over the baseline. */
  readonly speedUp?: number;
}

const WIDTH = 900;
const [LEFT, RIGHT] = [250, 150];
const [BAR, STEP, HEAD] = [20, 30, 64];
const GROUP = 34;

/** One group of bars per mode, each on its own scale. Colours follow the reader's light or dark system. */
export function speedChart(rows: readonly ChartRow[]): string {
  const modes = [...new Set(rows.map((row) => row.mode))];
  let y = HEAD;
  const groups = modes.map((mode) => {
    const members = rows.filter((row) => row.mode === mode);
    const group = groupOf(mode, members, y);
    y += GROUP + members.length * STEP + 14;
    return group;
  });
  return svgDocument({ width: WIDTH, height: y, label: "Step times", style: STYLE }, [
    `<text class="title" x="24" y="34">Step time</text>`,
    legend(
      WIDTH - 24,
      rows.some((row) => row.predictedMs !== undefined),
    ),
    ...groups,
  ]);
}

const STYLE = `
.mark { stroke: #1a2230; stroke-width: 2; } .spread { stroke: #1a2230; stroke-width: 1; opacity: .55; } .fast { font-weight: 650; }
@media (prefers-color-scheme: dark) { .mark, .spread { stroke: #e8ecf2; } }`;

function legend(right: number, hasPredictions: boolean): string {
  const items: [number, string, string][] = [
    [right - 432, `<rect class="work" width="12" height="12" rx="2"/>`, "computing"],
    [right - 326, `<rect fill="url(#hatch)" width="12" height="12"/>`, "waiting for the network"],
    [right - 122, `<path class="mark" d="M6 -2V14"/>`, "predicted"],
  ];
  return items
    .slice(0, hasPredictions ? 3 : 2)
    .map(
      ([x, mark, label]) =>
        `<g transform="translate(${x} 23)">${mark}<text x="19" y="11">${label}</text></g>`,
    )
    .join("");
}

function groupOf(mode: string, rows: readonly ChartRow[], top: number): string {
  const longest = Math.max(...rows.map(endOf));
  const scale = (WIDTH - LEFT - RIGHT) / longest;
  const bars = rows.map((row, i) => barOf(row, top + GROUP + i * STEP, scale));
  const title = `<text class="mode" x="24" y="${top + 18}">${escapeXml(TITLES[mode] ?? mode)}</text>`;
  return `${title}<path class="rule" d="M24 ${top + 26}H${WIDTH - 24}"/>${bars.join("")}`;
}

const TITLES: Readonly<Record<string, string>> = {
  forward: "Forward",
  train: "Forward and backward",
  step: "Optimiser step",
};

function barOf(row: ChartRow, y: number, scale: number): string {
  const px = (ms: number): string => (ms * scale).toFixed(1);
  const exposedMs = Math.min(row.exposedMs, row.stepMs);
  const middle = y + BAR / 2;
  const at = (ms: number): string => (LEFT + ms * scale).toFixed(1);
  const { spreadMs = 0, predictedMs, speedUp } = row;
  const faster = speedUp === undefined ? "" : `<tspan class="fast" dx="8">${speedUp.toFixed(2)} ×</tspan>`;
  return [
    `<text x="${LEFT - 12}" y="${y + 15}" text-anchor="end">${escapeXml(row.arch)} <tspan class="faint">${escapeXml(row.policy)}</tspan></text>`,
    `<rect class="work" x="${LEFT}" y="${y}" width="${px(row.stepMs - exposedMs)}" height="${BAR}" rx="2"/>`,
    `<rect fill="url(#hatch)" x="${at(row.stepMs - exposedMs)}" y="${y}" width="${px(exposedMs)}" height="${BAR}"/>`,
    `<path class="spread" d="M${at(row.stepMs - spreadMs)} ${middle}H${at(row.stepMs + spreadMs)}"/>`,
    predictedMs === undefined ? "" : `<path class="mark" d="M${at(predictedMs)} ${y - 2}V${y + BAR + 2}"/>`,
    `<text x="${(LEFT + endOf(row) * scale + 9).toFixed(1)}" y="${y + 15}">${row.stepMs.toFixed(1)} ms${faster}</text>`,
  ].join("");
}

function endOf({ stepMs, spreadMs = 0, predictedMs = 0 }: ChartRow): number {
  return Math.max(stepMs + spreadMs, predictedMs);
}
