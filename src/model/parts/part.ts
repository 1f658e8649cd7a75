/** What every part of a model has: its parameters in storage order, the kernel that reads them, and which it reads as what. */
import type { Kernel } from "../../kernel/kernel.js";
import type { ParameterSpan } from "../../program/kinds.js";
import type { OperatorClass } from "../../program/work.js";

/** One tensor of a model. Tensors that a kernel reads as one matrix (q, k, v) follow each other in storage. */
export interface ParameterInfo {
  readonly name: string;
  /** The name with "{e}" where an expert's index stands: what is said of all experts alike. */
  readonly family: string;
  readonly dims: readonly number[];
  /** Sharded over expert-parallel ranks by `expert`, or replicated. */
  readonly expert?: number;
  readonly init: "normal" | "zeros" | "ones";
  /** Not trained by gradients (the selection bias of bias-based balancing). */
  readonly buffer?: boolean;
  /** No kernel reads this tensor and the one before it as one: a bucket may begin here. */
  readonly mayStartBucket?: boolean;
  /** Its gradient is zero but for rounding (a key bias without rotary positions shifts all scores of a query alike). */
  readonly hasNoGradient?: boolean;
}

/** Kernel parameter → tensors. */
export type Spans = Readonly<Record<string, ParameterSpan>>;

/** A part of a model. `Arguments`: what its kernel may be built for. */
export interface Part<Arguments extends readonly unknown[] = []> {
  readonly class: OperatorClass;
  /** Plain data: parts of equal class and shape have equal kernels. */
  readonly shape: unknown;
  readonly parameters: readonly ParameterInfo[];
  readonly spans: Spans;
  kernel(...options: Arguments): Kernel;
}

/** A tensor that is one of its kind. */
export function tensor(
  name: string,
  dims: readonly number[],
  init: ParameterInfo["init"],
  more: Pick<ParameterInfo, "buffer" | "mayStartBucket"> = {},
): ParameterInfo {
  return { name, family: name, dims, init, ...more };
}

type Linear = readonly [name: string, out: number, inn: number];

/** All matrices first, then all biases: neighbours form one fused matrix and one fused bias. */
export function linears(
  prefix: string,
  items: readonly Linear[],
  options: { readonly bias: boolean; readonly expert?: number; readonly mayStartBucket?: boolean },
): ParameterInfo[] {
  const { bias, expert, mayStartBucket } = options;
  const info = (family: string, dims: readonly number[], init: ParameterInfo["init"]): ParameterInfo => ({
    name: expert === undefined ? family : family.replace("{e}", String(expert)),
    family,
    dims,
    init,
    expert,
  });
  const matrices = items.map(([name, out, inn]) => info(`${prefix}.${name}.weight`, [out, inn], "normal"));
  const biases = bias ? items.map(([name, out]) => info(`${prefix}.${name}.bias`, [out], "zeros")) : [];
  return [...matrices, ...biases].map((p, i) => (i === 0 && mayStartBucket ? { ...p, mayStartBucket } : p));
}
