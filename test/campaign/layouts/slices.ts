/** Tensors in the slices that ranks answer for, and whole again. */
import { sliceOf } from "../../../src/comm/regions.js";
import { groupOf } from "../../../src/model/gradient-buckets.js";
import type { Trainee } from "../../../src/train/trainee.js";

/** Elements of a tensor from `start` on. */
export interface Slice {
  readonly name: string;
  readonly start: number;
  readonly size: number;
  readonly data: Float32Array;
}

/** What this rank answers for: its slice of each bucket. */
export function slicesOfRank(
  rank: Trainee,
  arrayOf: (bucket: Trainee["weights"]["buckets"][number]) => Float32Array,
): Slice[] {
  return rank.weights.buckets.flatMap((bucket) => {
    const group = rank[groupOf(bucket)];
    const own = sliceOf(bucket.size, group.rank, group.size);
    return bucket.tensors.flatMap(({ info, offset, size }) => {
      const [start, end] = [Math.max(offset, own.start), Math.min(offset + size, own.end)];
      if (start >= end) return [];
      return [{ name: info.name, start: start - offset, size, data: arrayOf(bucket).slice(start, end) }];
    });
  });
}

/** Of all that ranks update, the part that this rank has moments of. */
export function momentSlices(rank: Trainee): Slice[] {
  return (["expAvg", "expAvgSq"] as const).flatMap((which) =>
    rank.weights.buckets.flatMap((bucket) => {
      const moments = rank.moments.get(bucket);
      if (moments === undefined) return [];
      return bucket.tensors.flatMap(({ info, offset, size }) => {
        const start = Math.max(offset, moments.start);
        const end = Math.min(offset + size, moments.end);
        if (start >= end) return [];
        const data = moments[which].slice(start - moments.start, end - moments.start);
        return [{ name: `${info.name}.${which}`, start: start - offset, size, data }];
      });
    }),
  );
}

/** Tensors of their slices; what nobody has is NaN. */
export function assemble(slices: readonly Slice[]): Map<string, Float32Array> {
  const tensors = new Map<string, Float32Array>();
  for (const { name, start, size, data } of slices) {
    const tensor = tensors.get(name) ?? new Float32Array(size).fill(NaN);
    tensor.set(data, start);
    tensors.set(name, tensor);
  }
  return tensors;
}

export function hashOf(data: Float32Array): string {
  const words = new Int32Array(data.buffer, data.byteOffset, data.length);
  let [a, b] = [0x811c9dc5, 0x9747b28c];
  for (const word of words) {
    a = Math.imul(a ^ word, 0x01000193);
    b = Math.imul(b ^ (word >>> 7) ^ (word << 25), 0x85ebca6b);
    b ^= b >>> 13;
  }
  return `${data.length} ${a} ${b}`;
}
