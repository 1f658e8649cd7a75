/**
 * The operators of a program. An operator is plain data; what is known of its kind stands in tables that are total over
 * the kinds: its stream (`STREAM_OF`), derivative (`backward-rules.ts`), gradients (`gradients.ts`), memory
 * (`footprint.ts`), ids of values (`renumber.ts`) and action (`run/actions`). A kind that lacks one of them does not compile.
 */
import type { KindData } from "./kinds.js";
import type { Work } from "./work.js";

/** What operators queue for: a rank runs one compute operator at a time; transfers progress beside it. */
export type Stream = "compute" | "network" | "storage";
export const STREAMS: readonly Stream[] = ["compute", "network", "storage"];

/** The half of a training step that an operator belongs to. */
export type Pass = "forward" | "backward";

/** What an operator is to the executor. */
export type Kind = keyof KindData;

/** Where operators of a kind run. Streams other than compute progress by themselves. */
export const STREAM_OF: { readonly [K in Kind]: Stream } = {
  embed: "compute",
  "embed'": "compute",
  kernel: "compute",
  "kernel'": "compute",
  route: "compute",
  "route'": "compute",
  encode: "compute",
  "encode'": "compute",
  transfer: "network",
  expert: "compute",
  "expert'": "compute",
  decode: "compute",
  "decode'": "compute",
  sum: "compute",
  statistics: "network",
  "reduce-scatter": "network",
  "reduce-sum": "compute",
  "all-gather": "network",
  update: "compute",
};

interface Common {
  readonly id: number;
  /** Unique and readable, for people only: "L3.attention", "L3.dispatch", "L3.attention'" (a prime marks backward). */
  readonly name: string;
  readonly stream: Stream;
  readonly pass: Pass;
  /** Index of the transformer block; undefined for embedding, head and what belongs to the whole step. */
  readonly layer?: number;
  /** Part of the rows, when they were split for pipelining. */
  readonly chunk?: number;
  /** Copy of a repeated program, from 1; undefined in the first, and where nothing is repeated. */
  readonly microBatch?: number;
  /** The routed branch, e.g. "L3": its dispatch, experts and combine follow each other chunk by chunk. */
  readonly branch?: string;
  readonly reads: readonly number[];
  readonly writes: readonly number[];
  /** Ordering edges beyond data (accumulation into one gradient buffer): ids that must finish first. */
  readonly after: readonly number[];
  readonly work: Work;
  /** Key of what the operator costs: operators with equal keys do the same work, and are measured and estimated together. */
  readonly cost: string;
}

/** An operator of one kind, or of any of several. */
export type OperatorOf<K extends Kind> = {
  [P in K]: Common & { readonly kind: P; readonly data: KindData[P] };
}[K];

/** One node of a program, as plain data. */
export type Operator = OperatorOf<Kind>;

/** A table with a rule for every kind of operator. */
export type RuleTable<A extends readonly unknown[], R> = {
  readonly [K in Kind]: (op: OperatorOf<K>, ...args: A) => R;
};

/** Applies the rule of an operator's kind. The compiler cannot see that a kind's rule is found by that kind; `RuleTable` says so. */
export function applyRule<A extends readonly unknown[], R>(
  table: RuleTable<A, R>,
  op: Operator,
  ...args: A
): R {
  return (table[op.kind] as (op: Operator, ...args: A) => R)(op, ...args);
}
