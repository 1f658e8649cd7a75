/** What an operator does, as far as placing, estimating and drawing it depend on it. */

/**
 * Classes of operators. `role` is what placement goes by:
 * - `large`: matrix work of a block outside the routed experts, which transfers can hide behind
 * - `expert`: the routed experts, whose place among the large operators a schedule chooses
 * - `rows`: a transfer of routed rows
 * - `edge`: before the first block or after the last
 * - `small`: everything else
 */
export const CLASSES = {
  embed: { role: "small", label: "embedding" },
  attention: { role: "large", label: "attention" },
  mlp: { role: "large", label: "MLP" },
  shared: { role: "large", label: "shared expert" },
  gate: { role: "small", label: "gate" },
  route: { role: "small", label: "routing" },
  encode: { role: "small", label: "encode" },
  dispatch: { role: "rows", label: "dispatch" },
  expert: { role: "expert", label: "routed experts" },
  combine: { role: "rows", label: "combine" },
  decode: { role: "small", label: "decode" },
  head: { role: "edge", label: "head" },
  sum: { role: "small", label: "sum" },
  statistics: { role: "small", label: "balance statistics" },
  "reduce-scatter": { role: "small", label: "gradients to their owners" },
  "reduce-sum": { role: "small", label: "sum of gradients" },
  "all-gather": { role: "small", label: "gradients from their owners" },
  weights: { role: "small", label: "weights from their owners" },
  update: { role: "small", label: "optimiser" },
} as const satisfies Readonly<
  Record<string, { role: "large" | "expert" | "rows" | "edge" | "small"; label: string }>
>;

/** What an operator is to people and to placing: attention, routed experts, dispatch … */
export type OperatorClass = keyof typeof CLASSES;
export type Role = (typeof CLASSES)[OperatorClass]["role"];

/** How much an operator does. */
export interface Work {
  readonly class: OperatorClass;
  /** Of a backward pass in two operators: input gradients, which others wait for, or weight gradients, which fill gaps. */
  readonly half?: "input" | "weight";
  /** Floating-point operations of matrix products; routed rows count as if spread evenly over experts and ranks. */
  readonly flops: number;
  /** Compute: bytes read and written, f32. Network: bytes that leave this rank. */
  readonly bytes: number;
  /** Rows computed or sent, where rows are routed. */
  readonly rows?: number;
}

type Described = { readonly pass: "forward" | "backward"; readonly work: Work };

export function roleOf({ work }: Described): Role {
  return CLASSES[work.class].role;
}

/** For people: "attention", "expert'", "expert'w" (weight gradients alone). */
export function workLabel({
  pass,
  work,
}: {
  readonly pass: Described["pass"];
  readonly work: Pick<Work, "class" | "half">;
}): string {
  return `${work.class}${pass === "backward" ? "'" : ""}${work.half === "weight" ? "w" : ""}`;
}

/** Equal for operators that do the same work in the same pass. */
export function costKey({ pass, work }: Described): string {
  const half = work.half === undefined ? "" : ` ${work.half} half`;
  return `${work.class} ${pass}${half}, ${work.flops} flop, ${work.bytes} B`;
}
