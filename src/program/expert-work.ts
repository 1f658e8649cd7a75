import type { Kernel } from "../kernel/kernel.js";
import { kernelWork } from "../kernel/work.js";
import type { MoeShape } from "./kinds.js";
import type { Work } from "./work.js";

/**
 * Work of the local experts on `rows` rows in all: each expert's weights are read (and gradients written) once, whatever
 * rows it gets.
 */
export function expertWork(
  kernel: Kernel,
  of: { readonly rows: number; readonly shape: MoeShape; readonly half?: Work["half"] },
): Work {
  const { rows, shape, half } = of;
  const perRow = kernelWork(kernel, new Map([["R", 1]]));
  const weights = kernelWork(kernel, new Map([["R", 0]])).bytes;
  const bytes = rows * (perRow.bytes - weights) + weights * (shape.numExperts / shape.epSize);
  // Every product is linear in the rows: they are its rows, or what a weight gradient sums over.
  return { class: "expert", half, rows, flops: rows * perRow.flops, bytes };
}
