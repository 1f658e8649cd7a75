/** Accumulated gradients of a rank's weights, in the same buckets. */
import type { ParameterSpan } from "../program/kinds.js";
import { type Bucket, type Weights, besideWeights } from "./weights.js";

export class Gradients {
  readonly #ofBucket: ReadonlyMap<Bucket, Float32Array>;

  constructor(readonly weights: Weights) {
    this.#ofBucket = new Map(
      weights.buckets.map((bucket) => [
        bucket,
        besideWeights(weights.engine, bucket, { length: bucket.size, label: "gradients" }),
      ]),
    );
  }

  /** Of all tensors of a bucket. */
  bucket(bucket: Bucket): Float32Array {
    return this.#ofBucket.get(bucket) as Float32Array;
  }

  /** One view over neighbouring tensors. */
  span(names: ParameterSpan): Float32Array {
    const { bucket, start, end } = this.weights.range(names);
    return this.bucket(bucket).subarray(start, end);
  }

  gradient(name: string): Float32Array {
    return this.span([name]);
  }

  zero(): void {
    for (const gradients of this.#ofBucket.values()) gradients.fill(0);
  }

  get bytes(): number {
    return this.weights.bytes;
  }
}
