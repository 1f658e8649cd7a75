/** What the page is given: the cases of one comparison, or the one step of a run, as compact JSON. */
export interface PageData {
  readonly cases: readonly PageCase[];
}

export interface PageCase {
  readonly title: string;
  readonly numRanks: number;
  readonly operators: readonly PageOperator[];
  /** Measured over predicted; a plan has nothing measured. */
  readonly sides: readonly PageSide[];
}

export interface PageOperator {
  readonly name: string;
  readonly cost: string;
  readonly stream: "compute" | "network" | "storage";
  readonly pass: "forward" | "backward";
}

export type SideKind = "measured" | "predicted";

export interface PageSide {
  readonly kind: SideKind;
  readonly summary: PageSummary;
  /** rank, index into the case's operators, start and end in ms, bytes sent to other ranks. */
  readonly events: readonly (readonly [number, number, number, number, number])[];
  /** rank, what could not start, start and end in ms. */
  readonly exposed: readonly (readonly [number, string, number, number])[];
  /** Indices into events: dispatch → expert → combine. */
  readonly flows: readonly (readonly [number, number])[];
}

export interface PageSummary {
  readonly stepMs: number;
  readonly computeMs: number;
  readonly communicationMs: number;
  readonly exposedMs: number;
  readonly lateMs: number;
  readonly overlapShare: number;
}

/** Classes of operators that the page tells apart, with the style sheet's variable and words for the legend. */
export const CLASSES = [
  { key: "attention", label: "attention", pattern: /^attention/ },
  { key: "mlp", label: "MLP", pattern: /^mlp/ },
  { key: "shared", label: "shared expert", pattern: /^shared/ },
  { key: "expert", label: "routed experts", pattern: /^expert/ },
  { key: "routing", label: "gate, encode, decode", pattern: /^(gate|route|encode|decode|statistics)/ },
  { key: "head", label: "embedding, head", pattern: /^(head|embed)/ },
  { key: "dispatch", label: "dispatch", pattern: /^dispatch/ },
  { key: "combine", label: "combine", pattern: /^combine/ },
  { key: "reduction", label: "gradient reduction", pattern: /^(reduce|scatter|gather)/ },
  { key: "other", label: "sums, others", pattern: /./ },
] as const;
export type OperatorClass = (typeof CLASSES)[number]["key"];

export function classOf(operator: PageOperator): OperatorClass {
  return CLASSES.find(({ pattern }) => pattern.test(operator.cost))?.key ?? "other";
}

export function milliseconds(ms: number): string {
  return `${ms >= 100 ? ms.toFixed(1) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(3)} ms`;
}

export function byteCount(bytes: number): string {
  if (bytes < 1e3) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}
