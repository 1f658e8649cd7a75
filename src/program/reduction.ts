/**
 * Appends gradient reduction to a program: per bucket a scatter of slices (network), their sum in rank order (compute)
 * and a gather (network). A bucket may start once every operator that adds to its gradients has finished, so an
 * overlapping schedule hides it behind the rest of the backward pass.
 */
import { ProgramBuilder } from "./builder.js";
import type * as K from "./kinds.js";
import type { Operator, Program } from "./program.js";

export interface ReductionBucket {
  readonly name: string;
  readonly tensors: readonly string[];
  readonly bytes: number;
  /** Ranks that hold a copy; buckets with one copy are not reduced. */
  readonly ranks: number;
  /** ZeRO-1 gathers updated weights after the optimiser instead of gradients. */
  readonly gather: boolean;
}

/** Names of the parameters whose gradients an operator adds to; "{e}" stands for any expert. */
export function gradientsWritten(op: Operator): readonly string[] {
  switch (op.kind) {
    case "kernel'": {
      const data = op.data as K.KernelBackwardData;
      return data.part === "input" ? [] : Object.values(data.parameters).flat();
    }
    case "expert'": {
      const { part, forward } = op.data as K.ExpertBackwardData;
      return part === "input" ? [] : Object.values(forward.parameters).flat();
    }
    case "embed'": {
      const { embedding, positions } = op.data as K.EmbedData;
      return positions === undefined ? [embedding] : [embedding, positions];
    }
    default:
      return [];
  }
}

export function withReduction(program: Program, buckets: readonly ReductionBucket[]): Program {
  const writers = new Map<string, number[]>();
  for (const op of program.operators)
    for (const name of gradientsWritten(op)) writers.set(name, [...(writers.get(name) ?? []), op.id]);
  const generic = (name: string) => name.replace(/experts\.\d+\./, "experts.{e}.");
  const ready = buckets
    .filter((bucket) => bucket.ranks > 1)
    .map((bucket) => {
      const after = new Set(bucket.tensors.flatMap((name) => writers.get(generic(name)) ?? []));
      return { bucket, after: [...after].sort((a, b) => a - b) };
    })
    .sort((a, b) => (a.after.at(-1) ?? -1) - (b.after.at(-1) ?? -1));

  const builder = new ProgramBuilder(program);
  for (const { bucket, after } of ready) {
    const slices = builder.value(`${bucket.name}.slices`, bucket.bytes);
    const phase = (
      name: K.ReduceData["phase"],
      spec: { reads: number[]; writes: number[]; after: readonly number[] },
      data: Partial<K.ReduceData>,
    ) =>
      builder.add({
        name: `reduce ${bucket.name}.${name}`,
        kind: "reduce",
        stream: name === "sum" ? "compute" : "network",
        pass: "backward",
        // Buckets differ in size: each has costs of its own.
        cost: `reduce.${name} ${bucket.name}`,
        ...spec,
        data: { bucket: bucket.name, phase: name, ...data } satisfies K.ReduceData,
      });
    phase("scatter", { reads: [], writes: [slices], after }, { output: slices });
    const sum = phase("sum", { reads: [slices], writes: [], after: [] }, { input: slices });
    if (bucket.gather) phase("gather", { reads: [], writes: [], after: [sum] }, {});
  }
  return builder.build(program.name);
}
