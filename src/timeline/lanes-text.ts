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

/** Lines of at most `width` characters. Half a cell is drawn where the lane was busy for half of it. */
export function lanesText(steps: readonly TitledLanes[], width = 80): string[] {
  const cells = Math.max(1, width - LEFT - RIGHT);
  const longest = Math.max(0, ...steps.map(({ lanes }) => lanes.stepMs));
  const cellMs = longest / cells;
  return [
    ...steps.flatMap(({ title, lanes }) => [
      `${title}: ${lanes.stepMs.toFixed(0)} ms`.slice(0, width),
      ...LANES.map(({ name, cells: letters }) => {
        const end = Math.min(cells, Math.ceil(lanes.stepMs / cellMs));
        return `  ${name.padEnd(LEFT - 3)}│${halves(lanes[name], cellMs, end)
          .map((taken) => letters[taken])
          .join("")}│`;
      }),
    ]),
    ...axisText(longest, cellMs, width),
  ];
}

/** Of each cell which halves the spans take: 1 for the left, 2 for the right. */
function halves(spans: readonly Span[], cellMs: number, cells: number): number[] {
  const busy = new Float64Array(2 * cells);
  const halfMs = cellMs / 2;
  for (const { start, end } of spans) {
    const last = Math.min(busy.length - 1, Math.floor(end / halfMs));
    for (let i = Math.max(0, Math.floor(start / halfMs)); i <= last; i++)
      busy[i] += Math.max(0, Math.min(end, (i + 1) * halfMs) - Math.max(start, i * halfMs));
  }
  const taken = Array.from(busy, (ms) => (ms >= halfMs / 2 ? 1 : 0));
  return Array.from({ length: cells }, (_, i) => taken[2 * i] + 2 * taken[2 * i + 1]);
}

/** Ticks, and their times in milliseconds under them. */
function axisText(longest: number, cellMs: number, width: number): string[] {
  if (longest === 0) return [];
  const [marks, numbers] = [new Array<string>(width).fill(" "), new Array<string>(width).fill(" ")];
  for (let i = LEFT; i < width - RIGHT + 1; i++) marks[i] = "─";
  for (const ms of ticks(0, longest, 6)) {
    const at = Math.min(width - RIGHT, LEFT + Math.floor(ms / cellMs));
    marks[at] = "┴";
    const text = ms === 0 ? "0 ms" : String(ms);
    const from = Math.min(at, width - text.length);
    for (const [i, letter] of [...text].entries()) numbers[from + i] = letter;
  }
  return [marks, numbers].map((letters) => letters.join("").trimEnd());
}
