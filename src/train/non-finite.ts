/** Where a number first stopped being finite. */
import { gatherJson } from "../comm/collectives.js";
import { sliceOf } from "../comm/regions.js";
import type { ModelProgram } from "../model/language-model.js";
import { groupOf } from "../model/gradient-buckets.js";
import type { LoadStatistics } from "../run/moe/statistics.js";
import { nonFiniteWeight } from "../run/finite.js";
import type { Bucket } from "../run/weights.js";
import type { Trainee } from "./trainee.js";

/** What a step has found; the same on all ranks. */
export interface StepNumbers {
  readonly loss: number;
  readonly gradientNorm: number;
  readonly loads: readonly LoadStatistics[];
}

export function isFiniteStep({ loss, gradientNorm, loads }: StepNumbers): boolean {
  return Number.isFinite(loss) && Number.isFinite(gradientNorm) && loads.every((l) => l.nonFinite === 0);
}

/**
 * The first tensor with a value that is not finite, in the order in which a step computes them: weights, gate logits, the
 * loss, gradients (from the head down). All ranks together.
 */
export function whereNonFinite(
  rank: Trainee,
  { routings }: Pick<ModelProgram, "routings">,
  { loss, loads }: StepNumbers,
): string {
  const own = { weight: nonFiniteWeight(rank), gradient: lastGradient(rank) };
  const found = gatherJson(rank.world, own, "tensors that are not finite");
  const on = (of: "weight" | "gradient"): string | undefined => {
    const at = found.findIndex((names) => names[of] !== undefined);
    return at < 0 ? undefined : `${layerOf(found[at][of] ?? "")}${of} ${found[at][of]} on rank ${at}`;
  };
  const gate = loads.findIndex(({ nonFinite }) => nonFinite > 0);
  const logits = (): string => {
    const { name, branch, layer } = routings[gate];
    return `layer ${layer}: gate logits of ${branch ?? name} (${loads[gate].nonFinite} tokens)`;
  };
  return (
    on("weight") ??
    (gate >= 0 ? logits() : undefined) ??
    (Number.isFinite(loss) ? undefined : `head: loss ${loss}`) ??
    on("gradient") ??
    `the gradient norm`
  );
}

/** Of the summed gradients that this rank holds, the tensor nearest the loss. */
function lastGradient(rank: Trainee): string | undefined {
  const names = rank.weights.buckets.flatMap((bucket) => nonFiniteGradients(rank, bucket));
  return names.at(-1);
}

function nonFiniteGradients(rank: Trainee, bucket: Bucket): string[] {
  const group = rank[groupOf(bucket)];
  const { start, end } = sliceOf(bucket.size, group.rank, group.size);
  const gradients = rank.gradients.bucket(bucket);
  return bucket.tensors
    .filter(({ offset, size }) => {
      const part = gradients.subarray(Math.max(start, offset), Math.min(end, offset + size));
      return part.length > 0 && !Number.isFinite(rank.engine.routines.sumSquares(part));
    })
    .map(({ info }) => info.name);
}

function layerOf(tensor: string): string {
  const layer = /\blayers\.(\d+)\./.exec(tensor)?.[1];
  return layer === undefined ? "" : `layer ${layer}: `;
}
