import type { DType } from "../core/tensor.js";
import type { OpName } from "./ops.js";
import type { QuantisedMatrix } from "./quantise.js";

/** A size known when the kernel is built, or a symbol ("T", "R") bound when it runs, or a sum of both ("P+S"). */
export type Dim = number | string;

/** Both are spelled in the order given, so equal sums are equal only when written alike. */
export function sumDims(a: Dim, b: Dim): Dim {
  return typeof a === "number" && typeof b === "number" ? a + b : `${a}+${b}`;
}

export type AttrValue =
  number | boolean | string | readonly number[] | readonly Dim[] | Float32Array | QuantisedMatrix;
export type Attrs = Readonly<Record<string, AttrValue>>;

/** One application of an op. Immutable; shared sub-expressions are the same object. */
export interface Expr {
  readonly op: OpName;
  readonly inputs: readonly Expr[];
  readonly attrs: Attrs;
  readonly dims: readonly Dim[];
  readonly dtype: DType;
}

/**
 * What differentiation makes of an input: "input" receives a gradient `d_<name>`, "parameter" an accumulated one
 * (`g_<name>`), "constant" none (integers, noise).
 */
export type Role = "input" | "parameter" | "constant";

export interface KernelInput {
  readonly name: string;
  readonly expr: Expr;
  readonly role: Role;
}

export interface KernelOutput {
  readonly name: string;
  readonly expr: Expr;
  /** Name of the input whose buffer this output may be written over (gradient accumulation). */
  readonly aliasOf?: string;
}

/** What one operator computes: named inputs to named outputs. Pure data; engines compile it. */
export interface Kernel {
  readonly name: string;
  readonly inputs: readonly KernelInput[];
  readonly outputs: readonly KernelOutput[];
}
