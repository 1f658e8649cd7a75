/**
 * A rank's weights in flat buckets. A bucket is a run of tensors of one kind (replicated or expert-sharded) in one arena, in
 * which gradients and optimiser state find room as well: the optimiser, the gradient reduction and the norm are each one pass
 * over few buffers.
 */
import { InputError, assert } from "../core/errors.js";
import { philox } from "../core/rng.js";
import { numElements } from "../core/tensor.js";
import type { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import { type QuantisedMatrix, quantise } from "../kernel/quantise.js";
import { type BucketLayout, type TensorRun, bucketsOf, localParameters } from "../model/buckets.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { ParameterSpan } from "../program/kinds.js";
import { ARENA_BYTES, gib } from "./memory.js";
import type { OperatorWeights, QuantisedShape } from "./operator-weights.js";

export interface BucketTensor {
  readonly info: ParameterInfo;
  readonly offset: number;
  readonly size: number;
}

export interface Bucket extends TensorRun {
  readonly tensors: readonly BucketTensor[];
  readonly weights: Float32Array;
  readonly arena: Arena;
}

export interface WeightLayout extends BucketLayout {
  /** Elements for which a bucket's arena keeps room beside its weights; default none. */
  readonly beside?: (bucket: Pick<Bucket, "kind" | "size">) => number;
}

export interface Place {
  readonly bucket: Bucket;
  readonly tensor: BucketTensor;
}

/** Beside its arrays an arena has room for their alignment. */
const SLACK_BYTES = 2 ** 16;

export class Weights implements OperatorWeights {
  readonly buckets: readonly Bucket[];
  readonly #where = new Map<string, Place>();
  /** Parameters without gradient (selection biases). */
  readonly buffers = new Map<string, { info: ParameterInfo; data: Float32Array }>();

  constructor(
    readonly engine: Engine,
    parameters: readonly ParameterInfo[],
    readonly layout: WeightLayout,
  ) {
    for (const info of localParameters(parameters, layout))
      if (info.buffer) this.buffers.set(info.name, { info, data: new Float32Array(numElements(info.dims)) });
    this.buckets = bucketsOf(parameters, layout).map((run) => allocateBucket(engine, run, layout));
    for (const bucket of this.buckets)
      for (const tensor of bucket.tensors) this.#where.set(tensor.info.name, { bucket, tensor });
  }

  /** Where a parameter lies. */
  find(name: string): Place {
    const found = this.#where.get(name);
    assert(found !== undefined, `parameter ${name} is not on this rank`);
    return found;
  }

  has(name: string): boolean {
    return this.#where.has(name);
  }

  dims(name: string): readonly number[] {
    return this.find(name).tensor.info.dims;
  }

  quantised(names: ParameterSpan, { dims, bits }: QuantisedShape): QuantisedMatrix {
    return quantise(this.span(names), dims, bits);
  }

  /** Views stay. */
  takeBack(): void {}

  weight(name: string): Float32Array {
    return this.span([name]);
  }

  /** One view over neighbouring tensors. */
  span(names: ParameterSpan): Float32Array {
    const { bucket, start, end } = this.range(names);
    return bucket.weights.subarray(start, end);
  }

  /** Elements of a bucket that neighbouring tensors take. */
  range(names: ParameterSpan): { readonly bucket: Bucket; readonly start: number; readonly end: number } {
    const { bucket, tensor } = this.find(names[0]);
    let end = tensor.offset + tensor.size;
    for (const name of names.slice(1)) {
      const next = this.find(name);
      assert(
        next.bucket === bucket && next.tensor.offset === end,
        `${name} does not follow ${names[0]} in memory`,
      );
      end += next.tensor.size;
    }
    return { bucket, start: tensor.offset, end };
  }

  get bytes(): number {
    return this.buckets.reduce((sum, bucket) => sum + bucket.weights.byteLength, 0);
  }

  /** normal(0, std) matrices and embeddings, zero biases, unit norms; the same numbers for any number of ranks. */
  initialize(seed: number, std: number): void {
    for (const bucket of this.buckets) {
      for (const { info, offset, size } of bucket.tensors) {
        const view = bucket.weights.subarray(offset, offset + size);
        if (info.init === "normal") philox(seed, `init ${info.name}`).fillNormal(view, 0, std);
        else view.fill(info.init === "ones" ? 1 : 0);
      }
    }
  }
}

/** An array beside a bucket's weights, in their arena where it has room: one pass over both then needs no copy. */
export function besideWeights(
  engine: Engine,
  bucket: Bucket,
  array: { readonly length: number; readonly label: string },
): Float32Array {
  const { length, label } = array;
  const bytes = length * 4 + SLACK_BYTES / 8;
  const { arena } = bucket;
  if (arena.capacityBytes - arena.liveBytes >= bytes) return arena.f32(length);
  return engine.newArena(length * 4 + SLACK_BYTES, `${bucket.name}.${label}`).f32(length);
}

function allocateBucket(engine: Engine, run: TensorRun, layout: WeightLayout): Bucket {
  let offset = 0;
  const tensors = run.infos.map((info) => {
    const tensor = { info, offset, size: numElements(info.dims) };
    offset += tensor.size;
    return tensor;
  });
  const { name, size } = run;
  const largest = tensors.reduce((a, b) => (b.size > a.size ? b : a));
  if (size * 4 > ARENA_BYTES)
    throw new InputError(
      `The parameters around ${largest.info.name} [${largest.info.dims.join(", ")}] need ${gib(size * 4)} in one piece; the limit is ${gib(ARENA_BYTES)}`,
    );
  const together = (size + (layout.beside?.(run) ?? 0)) * 4 + 2 * SLACK_BYTES;
  const arena = engine.newArena(together <= ARENA_BYTES ? together : size * 4 + SLACK_BYTES, name);
  return { ...run, tensors, weights: arena.f32(size), arena };
}
