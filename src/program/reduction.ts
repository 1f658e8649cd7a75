/**
 * Appends gradient reduction to a program (method 6.5): per bucket a scatter of slices (network), their sum in rank order (compute)
 * and a gather (network). A bucket may start once every operator that adds to its gradients has finished, so an
 * overlapping schedule hides it behind the rest of the backward pass.
 */
import { ProgramBuilder } from "./builder.js";
import { gradientsWritten } from "./gradients.js";
import type { GatherData, Group } from "./kinds.js";
import type { Program } from "./program.js";
import type { OperatorClass, Work } from "./work.js";

export interface ReductionBucket {
  readonly name: string;
  /** Families of the parameters in it, as operators name them. */
  readonly families: readonly string[];
  readonly bytes: number;
  readonly group: Group;
  /** Ranks that hold a copy; buckets with one copy are not reduced. */
  readonly ranks: number;
  /** ZeRO-1 gathers updated weights after the optimiser instead of gradients. */
  readonly gather: boolean;
}

export function withReduction(program: Program, buckets: readonly ReductionBucket[]): Program {
  const writers = new Map<string, number[]>();
  for (const op of program.operators)
    for (const family of gradientsWritten(op)) writers.set(family, [...(writers.get(family) ?? []), op.id]);
  const ready = buckets
    .filter((bucket) => bucket.ranks > 1)
    .map((bucket) => {
      const after = new Set(bucket.families.flatMap((family) => writers.get(family) ?? []));
      return { bucket, after: [...after].sort((a, b) => a - b) };
    })
    .sort((a, b) => (a.after.at(-1) ?? -1) - (b.after.at(-1) ?? -1));

  const builder = new ProgramBuilder(program);
  for (const { bucket, after } of ready) {
    const { name, group, bytes, ranks } = bucket;
    const slices = builder.value(`${name}.slices`, bytes);
    const common = { pass: "backward" } as const;
    builder.add({
      ...common,
      work: sendingWork("reduce-scatter", bucket),
      name: `reduce ${name}.scatter`,
      kind: "reduce-scatter",
      reads: [],
      writes: [slices],
      after,
      data: { bucket: name, group, output: slices },
    });
    const sum = builder.add({
      ...common,
      name: `reduce ${name}.sum`,
      kind: "reduce-sum",
      reads: [slices],
      writes: [],
      work: { class: "reduce-sum", flops: 0, bytes: bytes + bytes / ranks },
      data: { bucket: name, group, input: slices },
    });
    if (bucket.gather) addGather(builder, bucket, { part: "gradients", after: [sum] });
  }
  return builder.build(program.name);
}

/** ZeRO-1, after the optimiser (method 6.6): every rank's slice of updated weights to every rank. */
export function weightGathering(buckets: readonly ReductionBucket[]): Program {
  const builder = new ProgramBuilder();
  for (const bucket of buckets)
    if (!bucket.gather && bucket.ranks > 1) addGather(builder, bucket, { part: "weights", after: [] });
  return builder.build("gathering of weights");
}

function addGather(
  builder: ProgramBuilder,
  bucket: ReductionBucket,
  how: { readonly part: GatherData["part"]; readonly after: readonly number[] },
): void {
  const { name, group } = bucket;
  const { part, after } = how;
  const isGradients = part === "gradients";
  builder.add({
    name: isGradients ? `reduce ${name}.gather` : `weights ${name}`,
    kind: "all-gather",
    pass: "backward",
    reads: [],
    writes: [],
    after,
    work: sendingWork(isGradients ? "all-gather" : "weights", bucket),
    data: { bucket: name, group, part },
  });
}

/** Each of these sends all slices but the own: (ranks − 1) / ranks of the bucket. */
function sendingWork(of: OperatorClass, { bytes, ranks }: ReductionBucket): Work {
  return { class: of, flops: 0, bytes: (bytes * (ranks - 1)) / ranks };
}
