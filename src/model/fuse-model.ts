/** A model's program with neighbouring kernels as one. */
import { type FuseOptions, type FusedProgram, fuseKernels } from "../program/fuse.js";
import type { ModelProgram } from "./language-model.js";

/** A model, and what has become of the ids of the original. */
export interface FusedModel extends ModelProgram, Omit<FusedProgram, "program"> {}

/** The same model; what is fed and read has new ids. The model's output is kept, and what `keep` names beside it. */
export function fuseModel(model: ModelProgram, options: FuseOptions = {}): FusedModel {
  const { keep = [] } = options;
  const { tokens, labels, positions, starts, cache, noise, output, distilled } = model;
  const { program, ...fused } = fuseKernels(model.program, { ...options, keep: [...keep, output] });
  const to = (value: number): number => fused.values.get(value) as number;
  const optional = (value: number | undefined): number | undefined =>
    value === undefined ? undefined : to(value);
  return {
    ...model,
    program,
    tokens: to(tokens),
    labels: optional(labels),
    positions: optional(positions),
    starts: optional(starts),
    cache: cache && {
      last: to(cache.last),
      total: to(cache.total),
      wanted: to(cache.wanted),
      blocks: cache.blocks.map((block) => ({
        ...block,
        keys: to(block.keys),
        values: optional(block.values),
      })),
    },
    noise: noise.map(to),
    output: to(output),
    distilled: distilled && { teacher: to(distilled.teacher), divergences: to(distilled.divergences) },
    routings: program.operators.flatMap((op) => (op.kind === "route" ? [op] : [])),
    ...fused,
  };
}
