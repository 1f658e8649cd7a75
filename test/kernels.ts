/** Every kernel of a small model with its derivative, by the class of its operators. */
import { type Differentiated, differentiate } from "../src/kernel/differentiate.js";
import type { Kernel } from "../src/kernel/kernel.js";
import { type ModelInput, resolveModel } from "../src/model/config.js";

import { type MoeParts, structureOf } from "../src/model/structure.js";
import type { Part } from "../src/model/parts/part.js";

/** @param model with a dense block followed by an MoE block that has a shared expert */
export function trainingKernels(model: ModelInput, sequence: number): [name: string, Differentiated][] {
  const { blocks, head } = structureOf(resolveModel(model));
  const moe = blocks[1].moe as MoeParts;
  const kernels: Record<string, Kernel> = {
    attention: blocks[0].attention.kernel(sequence),
    mlp: (blocks[0].mlp as Part).kernel(),
    gate: moe.gate.kernel(true),
    shared: (moe.shared as Part).kernel(),
    expert: moe.experts.kernel(),
    head: head.kernel("losses"),
  };
  return Object.entries(kernels).map(([name, kernel]) => [name, differentiate(kernel, { save: "heavy" })]);
}
