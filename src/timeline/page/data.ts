import type { OperatorClass } from "../../program/work.js";
import type { EventOperator, Timeline, TimelineSummary } from "../timeline.js";

/** What the page is given: the cases of one comparison, or the one step of a run, as compact JSON. */
export interface PageData {
  readonly cases: readonly PageCase[];
}

export interface PageCase {
  readonly title: string;
  readonly numRanks: number;
  readonly operators: readonly PageOperator[];
  /** Measured over predicted, or one of them alone. */
  readonly sides: readonly PageSide[];
}

export type PageOperator = Pick<EventOperator, "name" | "class" | "stream" | "pass">;

export type SideKind = Timeline["kind"];

export interface PageSide {
  readonly kind: SideKind;
  readonly summary: TimelineSummary;
  /** rank, index into the case's operators, start and end in ms, bytes sent to other ranks. */
  readonly events: readonly (readonly [number, number, number, number, number])[];
  /** rank, what could not start, start and end in ms. */
  readonly exposed: readonly (readonly [number, string, number, number])[];
  /** Indices into events: dispatch → expert → combine. */
  readonly flows: readonly (readonly [number, number])[];
}

/** What the page tells apart, with the style sheet's variable and words for the legend. */
export const COLOURS = [
  { key: "attention", label: "attention" },
  { key: "mlp", label: "MLP" },
  { key: "shared", label: "shared expert" },
  { key: "expert", label: "routed experts" },
  { key: "routing", label: "gate, encode, decode" },
  { key: "head", label: "embedding, head" },
  { key: "dispatch", label: "dispatch" },
  { key: "combine", label: "combine" },
  { key: "reduction", label: "gradient reduction" },
  { key: "other", label: "sums, others" },
] as const;
export type Colour = (typeof COLOURS)[number]["key"];

const COLOUR_OF: Readonly<Record<OperatorClass, Colour>> = {
  embed: "head",
  attention: "attention",
  mlp: "mlp",
  shared: "shared",
  gate: "routing",
  route: "routing",
  encode: "routing",
  dispatch: "dispatch",
  expert: "expert",
  combine: "combine",
  decode: "routing",
  head: "head",
  sum: "other",
  statistics: "routing",
  "reduce-scatter": "reduction",
  "reduce-sum": "reduction",
  "all-gather": "reduction",
  update: "other",
  weights: "reduction",
};

export function colourOf(operator: PageOperator): Colour {
  return COLOUR_OF[operator.class];
}

export function milliseconds(ms: number): string {
  return `${ms >= 100 ? ms.toFixed(1) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(3)} ms`;
}

export function byteCount(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}
