import type { Stream } from "./operator.js";

/**
 * An order of a program's operators per stream (method 7.2): plain serialisable data. Streams advance independently; an operator
 * starts when it is at the head of its stream and everything it depends on has finished.
 */
export interface Schedule {
  /** The policy that made it, e.g. "sequential", "fixed(2)", "adaptive". */
  readonly policy: string;
  readonly order: Readonly<Record<Stream, readonly number[]>>;
  /**
   * Extra ordering edges [before, after] between streams. `sequential` uses them to forbid overlap: the whole
   * step becomes one chain.
   */
  readonly edges: readonly (readonly [number, number])[];
  /** One line for people: what was chosen and why. */
  readonly note: string;
}
