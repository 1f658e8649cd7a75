/** Which experts a token is sent to. Ties go to the lower index, among groups as among experts. */
import type { MoeShape } from "../../program/kinds.js";

/**
 * Leaves only the experts of the best groups: those of others cannot be chosen any more.
 * @param score [N] of experts, written: −∞ where the group is out
 */
function keepGroups(
  score: Float64Array,
  { count, kept, score: rule }: NonNullable<MoeShape["groups"]>,
): void {
  const size = score.length / count;
  const groups = Float64Array.from({ length: count }, (_, group) => {
    const experts = score.subarray(group * size, (group + 1) * size);
    return rule === "best" ? Math.max(...experts) : twoBest(experts);
  });
  const isKept = new Uint8Array(count);
  for (let i = 0; i < kept; i++) {
    const best = takeBest(groups);
    isKept[best] = 1;
  }
  isKept.forEach((keeps, group) => {
    if (keeps === 0) score.fill(-Infinity, group * size, (group + 1) * size);
  });
}

function twoBest(scores: Float64Array): number {
  let [first, second] = [-Infinity, -Infinity];
  for (const score of scores) {
    if (score > first) [first, second] = [score, first];
    else if (score > second) second = score;
  }
  return first + second;
}

/** The index of the largest, which becomes −∞. */
function takeBest(score: Float64Array): number {
  let top = 0;
  for (let i = 1; i < score.length; i++) if (score[i] > score[top]) top = i;
  score[top] = -Infinity;
  return top;
}

/**
 * @param choice [K], written: best first
 * @param score one for each expert, zero experts included; overwritten
 */
export function choose(choice: Int32Array, score: Float64Array, { groups }: Pick<MoeShape, "groups">): void {
  if (groups !== undefined) keepGroups(score, groups);
  for (let j = 0; j < choice.length; j++) choice[j] = takeBest(score);
}
