/** Steps as lanes of characters, one under the other on one scale: for terminals, without colour. */
import type { Span } from "./lanes.js";
import type { StepLanes } from "./step-lanes.js";
import { ticks } from "./svg.js";

export interface TitledLanes {
  readonly title: string;
  readonly lanes: StepLanes;
}

const LEFT = 10;
const RIGHT = 2;
/** A lane, and how it draws a cell: neither half taken, the left, the right, both. */
const LANES = [
  { name: "compute", cells: " ▌▐█" },
  { name: "network", cells: " ▘▝▀" },
] as const;

/** Halves of a cell that a typical transfer should take; where steps are long for that, they are drawn in bands. */
const HALVES = 1.2;
const MOST_BANDS = 3;

/**
 * Lines of at most `width` characters. Half a cell is drawn where the lane was busy for half of it. Steps with transfers
 * too short for one axis continue on a second and third.
 */
export function lanesText(steps: readonly TitledLanes[], width = 80): string[] {
  const cells = Math.max(1, width - LEFT - RIGHT);
  const longest = Math.max(0, ...steps.map(({ lanes }) => lanes.stepMs));
  const bands = numBands(steps, longest / (2 * cells));
  const cellMs = longest / cells / bands;
  return Array.from({ length: bands }, (_, band) => {
    const first = band * cells;
    return [
      ...(band === 0 ? [] : [""]),
      ...steps.flatMap(({ title, lanes }) => {
        const end = Math.ceil(lanes.stepMs / cellMs - 1e-9);
        const isDone = band > 0 && end <= first;
        const said = `${title}: ${isDone ? "done after " : ""}${lanes.stepMs.toFixed(0)} ms`;
        return [said.slice(0, width), ...(isDone ? [] : lanesOf(lanes, { cellMs, first, cells, end }))];
      }),
      ...axisText(first * cellMs, (first + cells) * cellMs, width),
    ];
  }).flat();
}

function numBands(steps: readonly TitledLanes[], halfMs: number): number {
  const transfers = steps.flatMap(({ lanes }) => lanes.network.map(({ start, end }) => end - start));
  if (transfers.length === 0) return 1;
  const typical = transfers.sort((a, b) => a - b)[transfers.length >> 1];
  return Math.min(MOST_BANDS, Math.max(1, Math.ceil((HALVES * halfMs) / typical)));
}

/** Cells from `first` on, at most so many, up to `end`, where a bar closes the step. */
function lanesOf(
  lanes: StepLanes,
  { cellMs, first, cells, end }: { cellMs: number; first: number; cells: number; end: number },
): string[] {
  const numCells = Math.min(cells, end - first);
  return LANES.map(({ name, cells: letters }) => {
    const taken = halves(lanes[name], cellMs, first, numCells);
    const bar = end <= first + cells ? "│" : "";
    return `  ${name.padEnd(LEFT - 3)}│${taken.map((which) => letters[which]).join("")}${bar}`.trimEnd();
  });
}

/** Of each cell which halves the spans take: 1 for the left, 2 for the right. */
function halves(spans: readonly Span[], cellMs: number, first: number, cells: number): number[] {
  const busy = new Float64Array(2 * cells);
  const halfMs = cellMs / 2;
  const shift = 2 * first;
  for (const { start, end } of spans) {
    const last = Math.min(busy.length - 1, Math.floor(end / halfMs) - shift);
    for (let i = Math.max(0, Math.floor(start / halfMs) - shift); i <= last; i++)
      busy[i] += Math.min(end, (shift + i + 1) * halfMs) - Math.max(start, (shift + i) * halfMs);
  }
  const taken = Array.from(busy, (ms) => (ms >= halfMs / 2 ? 1 : 0));
  return Array.from({ length: cells }, (_, i) => taken[2 * i] + 2 * taken[2 * i + 1]);
}

/** Ticks, and their times under them. */
function axisText(fromMs: number, toMs: number, width: number): string[] {
  if (toMs === 0) return [];
  const cellMs = (toMs - fromMs) / Math.max(1, width - LEFT - RIGHT);
  const [marks, numbers] = [new Array<string>(width).fill(" "), new Array<string>(width).fill(" ")];
  for (let i = LEFT; i < width - RIGHT + 1; i++) marks[i] = "─";
  for (const [i, ms] of ticks(fromMs, toMs, 6).entries()) {
    const at = Math.min(width - RIGHT, LEFT + Math.floor((ms - fromMs) / cellMs + 1e-9));
    marks[at] = "┴";
    const text = i === 0 ? `${ms} ms` : String(ms);
    const start = Math.min(at, width - text.length);
    for (const [k, letter] of [...text].entries()) numbers[start + k] = letter;
  }
  return [marks, numbers].map((letters) => letters.join("").trimEnd());
}
