/** Trainings side by side in a self-contained SVG: a step of each as lanes on one scale, and losses over time. */
import type { Span } from "./lanes.js";
import type { StepLanes } from "./step-lanes.js";
import { escapeXml, svgDocument, ticks } from "./svg.js";

export interface ChartedTraining {
  readonly title: string;
  /** A typical step of one rank. */
  readonly lanes: StepLanes;
  /** Every step, in order. */
  readonly course: readonly ChartedStep[];
}

export interface ChartedStep {
  /** Seconds of training when the step had been done. */
  readonly seconds: number;
  /** Nats per token. */
  readonly loss: number;
  /** Null where none was taken. */
  readonly validationLoss: number | null;
}

const WIDTH = 900;
const [LEFT, RIGHT] = [110, 36];
const INNER = WIDTH - LEFT - RIGHT;
const [LANE, LANE_GAP, MODEL] = [24, 4, 92];
const PLOT = 250;
/** Of the steps, over which a curve is smoothed. */
const SMOOTHED = 0.05;

const STYLE = `
.net { fill: #c07c14; } .grid { stroke: #e2e6ed; fill: none; } .axis { text-anchor: middle; }
.raw { fill: none; stroke-width: 1; opacity: .28; } .curve { fill: none; stroke-width: 2.4; stroke-linejoin: round; }
.m0 { stroke: #6b7688; } .m1 { stroke: #7b54b3; } .m2 { stroke: #2f8a63; } .m3 { stroke: #b8542a; } .dot { fill: #fff; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  .net { fill: #d9962b; } .grid { stroke: #313b4a; } .dot { fill: #1a2029; }
  .m0 { stroke: #97a3b4; } .m1 { stroke: #a98be0; } .m2 { stroke: #4db58a; } .m3 { stroke: #e07b4e; }
}`;

/** Lanes above, losses below. At most four trainings have colours of their own. */
export function overlapChart(trainings: readonly ChartedTraining[]): string {
  const lanes = lanesPanel(trainings, 0);
  const losses = lossPanel(trainings, lanes.height);
  const height = lanes.height + losses.height;
  const label = "Steps as lanes of compute and network, and training loss over time";
  return svgDocument({ width: WIDTH, height, label, style: STYLE }, [...lanes.parts, ...losses.parts]);
}

interface Panel {
  readonly height: number;
  readonly parts: readonly string[];
}

function lanesPanel(trainings: readonly ChartedTraining[], top: number): Panel {
  const longest = Math.max(...trainings.map(({ lanes }) => lanes.stepMs)) || 1;
  const x = (ms: number): number => LEFT + (ms / longest) * INNER;
  const first = top + 62;
  const bottom = first + trainings.length * MODEL;
  return {
    height: bottom + 30 - top,
    parts: [
      title("One step of rank 0", top + 34),
      legend(top + 23),
      ...grid(ticks(0, longest, 8), { x, top: first + 12, bottom, unit: "ms" }),
      ...trainings.map((training, i) => modelLanes(training, i, first + i * MODEL, x)),
    ],
  };
}

function modelLanes(
  { title, lanes }: ChartedTraining,
  index: number,
  y: number,
  x: (ms: number) => number,
): string {
  const [compute, network] = [y + 24, y + 24 + LANE + LANE_GAP];
  // Waits behind both lanes: what is sent alone stands on their hatching.
  return [
    `<path class="curve m${index % 4}" d="M24 ${y + 9}h14"/>`,
    `<text class="mode" x="46" y="${y + 14}">${escapeXml(title)} <tspan class="faint">${lanes.stepMs.toFixed(0)} ms</tspan></text>`,
    bars(lanes.waiting, x, { y: compute, height: 2 * LANE + LANE_GAP, fill: `fill="url(#hatch)"` }),
    bars(lanes.compute, x, { y: compute, height: LANE, fill: `class="work"` }),
    bars(lanes.network, x, { y: network + 4, height: LANE - 8, fill: `class="net"` }),
    ...[
      ["compute", compute],
      ["network", network],
    ].map(
      ([name, at]) =>
        `<text class="faint" x="${LEFT - 12}" y="${Number(at) + 16}" text-anchor="end">${name}</text>`,
    ),
  ].join("");
}

function bars(
  spans: readonly Span[],
  x: (ms: number) => number,
  { y, height, fill }: { y: number; height: number; fill: string },
): string {
  return spans
    .map(({ start, end }) => {
      const width = Math.max(0.2, x(end) - x(start));
      return `<rect ${fill} x="${x(start).toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${height}"/>`;
    })
    .join("");
}

function legend(y: number): string {
  const items = [
    [-400, `<rect class="work" width="12" height="12" rx="2"/>`, "computing"],
    [-296, `<rect class="net" width="12" height="12" rx="2"/>`, "a transfer under way"],
    [-122, `<rect fill="url(#hatch)" width="12" height="12"/>`, "compute waits"],
  ] as const;
  return items
    .map(
      ([x, mark, label]) =>
        `<g transform="translate(${WIDTH - 24 + x} ${y})">${mark}<text x="19" y="11">${label}</text></g>`,
    )
    .join("");
}

function title(text: string, y: number): string {
  return `<text class="title" x="24" y="${y}">${text}</text>`;
}

/** Vertical rules at round times, with their numbers under them. */
function grid(
  at: readonly number[],
  { x, top, bottom, unit }: { x: (value: number) => number; top: number; bottom: number; unit: string },
): string[] {
  return at.map((value) => {
    const px = x(value).toFixed(1);
    const text = value === 0 ? `0 ${unit}` : String(value);
    return `<path class="grid" d="M${px} ${top}V${bottom + 4}"/><text class="faint axis" x="${px}" y="${bottom + 19}">${text}</text>`;
  });
}

function lossPanel(trainings: readonly ChartedTraining[], panelTop: number): Panel {
  const [top, bottom] = [panelTop + 66, panelTop + 66 + PLOT];
  const steps = trainings.flatMap(({ course }) => course);
  const shown = steps.flatMap(({ loss, validationLoss }) => [loss, validationLoss ?? loss]);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const seconds = Math.max(...steps.map((step) => step.seconds)) || 1;
  const x = (value: number): number => LEFT + (value / seconds) * INNER;
  const y = (value: number): number => bottom - ((value - low) / (high - low || 1)) * PLOT;
  const levels = ticks(low, high, 5).map(
    (level) =>
      `<path class="grid" d="M${LEFT} ${y(level).toFixed(1)}H${WIDTH - RIGHT}"/><text class="faint" x="${LEFT - 12}" y="${(y(level) + 4).toFixed(1)}" text-anchor="end">${level}</text>`,
  );
  return {
    height: bottom + 44 - panelTop,
    parts: [
      title("Training loss over time", panelTop + 34),
      `<text class="faint" x="24" y="${panelTop + 53}">nats per token, smoothed; circles: validation; seconds of training steps, without evaluation and saving</text>`,
      ...(steps.length === 0
        ? []
        : [...levels, ...grid(ticks(0, seconds, 8), { x, top, bottom, unit: "s" })]),
      ...trainings.map(({ course }, i) => curves(course, i, x, y)),
      ...trainings.map((training, i) => ending(training, i, top + 14 + i * 22)),
    ],
  };
}

function curves(
  course: readonly ChartedStep[],
  index: number,
  x: (seconds: number) => number,
  y: (loss: number) => number,
): string {
  if (course.length === 0) return "";
  const path = (losses: readonly number[]): string =>
    losses
      .map((loss, i) => `${i === 0 ? "M" : "L"}${x(course[i].seconds).toFixed(1)} ${y(loss).toFixed(1)}`)
      .join("");
  const losses = course.map(({ loss }) => loss);
  const dots = course.map(({ seconds, validationLoss }) =>
    validationLoss === null
      ? ""
      : `<circle class="dot m${index % 4}" cx="${x(seconds).toFixed(1)}" cy="${y(validationLoss).toFixed(1)}" r="4.5"/>`,
  );
  return `<path class="raw m${index % 4}" d="${path(losses)}"/><path class="curve m${index % 4}" d="${path(smoothed(losses))}"/>${dots.join("")}`;
}

/** Means of the last few values at each. */
function smoothed(values: readonly number[]): number[] {
  const window = Math.max(1, Math.round(values.length * SMOOTHED));
  return values.map((_, i) => {
    const recent = values.slice(Math.max(0, i + 1 - window), i + 1);
    return recent.reduce((sum, value) => sum + value, 0) / recent.length;
  });
}

/** A training's name, and what it came to. */
function ending({ title, course }: ChartedTraining, index: number, y: number): string {
  const last = course.at(-1);
  const validation = last?.validationLoss ?? null;
  const facts =
    last === undefined
      ? "no step"
      : `${course.length} steps, ${last.seconds.toFixed(0)} s${validation === null ? "" : `, validation ${validation.toFixed(3)}`}`;
  const left = WIDTH - RIGHT - 380;
  return `<path class="curve m${index % 4}" d="M${left} ${y - 5}h14"/><text x="${left + 22}" y="${y}"><tspan class="mode">${escapeXml(title)}</tspan> <tspan class="faint">${facts}</tspan></text>`;
}
