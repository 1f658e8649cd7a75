/**
 * A rank's parameters, gradients and optimiser state in flat buckets. A bucket is a run of tensors, of one kind
 * (replicated or expert-sharded), whose weights, gradients and moments lie in one arena: the optimiser, the gradient
 * reduction and the norm are each one pass over few buffers.
 */
import { sliceOf } from "../comm/slots.js";
import { InputError, assert } from "../core/errors.js";
import { philox } from "../core/rng.js";
import { numElements } from "../core/tensor.js";
import type { Engine } from "../engine/engine.js";
import type { ParameterInfo } from "../model/parameters.js";
import type { ParameterSpan } from "../program/kinds.js";
import { ARENA_BYTES, gib } from "./memory.js";

export interface BucketTensor {
  readonly info: ParameterInfo;
  readonly offset: number;
  readonly size: number;
}

export interface Bucket {
  readonly name: string;
  readonly kind: "replicated" | "expert";
  readonly tensors: readonly BucketTensor[];
  readonly size: number;
  readonly weights: Float32Array;
  /** Empty arrays in inference. */
  readonly gradients: Float32Array;
  /** First and second moments of the range [ownedStart, ownedEnd) that this rank updates. */
  readonly expAvg: Float32Array;
  readonly expAvgSq: Float32Array;
  readonly ownedStart: number;
  readonly ownedEnd: number;
}

export interface StoreLayout {
  readonly epRank: number;
  readonly epSize: number;
  readonly training: boolean;
  /** ZeRO-1: each of `shards` ranks keeps the optimiser state of its range of every replicated bucket. */
  readonly zero?: { readonly shard: number; readonly shards: number };
  /** Largest bucket in elements; small in tests. The four arrays of a bucket share an arena where they fit in one. */
  readonly bucketElements?: number;
}

const BUCKET_ELEMENTS = 2 ** 24;
const MIN_BUCKETS = 8;
/** Tensors start on 64-byte boundaries only where a span does not forbid it, so spans stay contiguous: none is padded. */
export class ParameterStore {
  readonly buckets: readonly Bucket[];
  readonly #where = new Map<string, { bucket: Bucket; tensor: BucketTensor }>();
  /** Parameters without gradient (selection biases). */
  readonly buffers = new Map<string, { info: ParameterInfo; data: Float32Array }>();

  constructor(
    engine: Engine,
    parameters: readonly ParameterInfo[],
    readonly layout: StoreLayout,
  ) {
    const local = layout.epSize;
    const experts = Math.max(0, ...parameters.map((p) => (p.expert ?? -1) + 1));
    const perRank = experts / local;
    const mine = parameters.filter(
      (p) => p.expert === undefined || Math.floor(p.expert / perRank) === layout.epRank,
    );
    for (const info of mine.filter((p) => p.buffer))
      this.buffers.set(info.name, { info, data: new Float32Array(numElements(info.dims)) });
    const trained = mine.filter((p) => !p.buffer);
    // Several buckets even in a small model: the first are reduced while the backward pass goes on.
    const share = Math.ceil(trained.reduce((sum, p) => sum + numElements(p.dims), 0) / MIN_BUCKETS);
    const groups = groupIntoBuckets(trained, layout.bucketElements ?? Math.min(BUCKET_ELEMENTS, share));
    this.buckets = groups.map((group, i) => allocateBucket(engine, group, `${group.kind}.${i}`, layout));
    for (const bucket of this.buckets)
      for (const tensor of bucket.tensors) this.#where.set(tensor.info.name, { bucket, tensor });
  }

  find(name: string): { bucket: Bucket; tensor: BucketTensor } {
    const found = this.#where.get(name);
    assert(found !== undefined, `parameter ${name} is not on this rank`);
    return found;
  }

  has(name: string): boolean {
    return this.#where.has(name);
  }

  weight(name: string): Float32Array {
    return this.span([name], "weights");
  }

  gradient(name: string): Float32Array {
    return this.span([name], "gradients");
  }

  /** One view over neighbouring tensors. */
  span(names: ParameterSpan, part: "weights" | "gradients"): Float32Array {
    const first = this.find(names[0]);
    let end = first.tensor.offset + first.tensor.size;
    for (const name of names.slice(1)) {
      const next = this.find(name);
      assert(
        next.bucket === first.bucket && next.tensor.offset === end,
        `${name} does not follow ${names[0]} in memory`,
      );
      end += next.tensor.size;
    }
    return first.bucket[part].subarray(first.tensor.offset, end);
  }

  /** Elements of parameter, gradient and optimiser state on this rank, in bytes. */
  get stateBytes(): number {
    return this.buckets.reduce(
      (sum, b) =>
        sum + b.weights.byteLength + b.gradients.byteLength + b.expAvg.byteLength + b.expAvgSq.byteLength,
      0,
    );
  }

  zeroGradients(): void {
    for (const bucket of this.buckets) bucket.gradients.fill(0);
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

interface Group {
  readonly kind: Bucket["kind"];
  readonly infos: ParameterInfo[];
  size: number;
}

/**
 * Runs of one kind up to the wanted size, cut only at norms: every fused span (q, k, v; gate and up) lies within one
 * attention or MLP, and no span reaches across a norm's or a down projection's weight.
 */
function groupIntoBuckets(infos: readonly ParameterInfo[], wanted: number): Group[] {
  const open = new Map<Bucket["kind"], Group>();
  const groups: Group[] = [];
  for (const info of infos) {
    const kind = info.expert === undefined ? "replicated" : "expert";
    let group = open.get(kind);
    if (group === undefined || (group.size >= wanted && startsUnit(info))) {
      group = { kind, infos: [], size: 0 };
      open.set(kind, group);
      groups.push(group);
    }
    group.infos.push(info);
    group.size += numElements(info.dims);
  }
  return groups;
}

function startsUnit(info: ParameterInfo): boolean {
  return /(layernorm|model\.norm|lm_head|down_proj)\.weight$/.test(info.name);
}

function allocateBucket(engine: Engine, group: Group, name: string, layout: StoreLayout): Bucket {
  let offset = 0;
  const tensors = group.infos.map((info) => {
    const tensor = { info, offset, size: numElements(info.dims) };
    offset += tensor.size;
    return tensor;
  });
  const size = offset;
  const [ownedStart, ownedEnd] = ownedRange(group.kind, size, layout);
  const owned = layout.training ? ownedEnd - ownedStart : 0;
  const gradientSize = layout.training ? size : 0;
  const largest = tensors.reduce((a, b) => (b.size > a.size ? b : a));
  if (size * 4 > ARENA_BYTES)
    throw new InputError(
      `The parameters around ${largest.info.name} [${largest.info.dims.join(", ")}] need ${gib(size * 4)} in one piece; the limit is ${gib(ARENA_BYTES)}`,
    );
  const together = (size + gradientSize + 2 * owned) * 4 + 2 ** 17;
  const shared = together <= ARENA_BYTES ? engine.newArena(together, name) : undefined;
  const array = (length: number, part: string): Float32Array =>
    (shared ?? engine.newArena(length * 4 + 2 ** 16, `${name}.${part}`)).f32(length);
  return {
    name,
    kind: group.kind,
    tensors,
    size,
    weights: array(size, "weights"),
    gradients: array(gradientSize, "gradients"),
    expAvg: array(owned, "exp_avg"),
    expAvgSq: array(owned, "exp_avg_sq"),
    ownedStart,
    ownedEnd,
  };
}

function ownedRange(kind: Bucket["kind"], size: number, layout: StoreLayout): [number, number] {
  if (layout.zero === undefined || kind === "expert") return [0, size];
  const { shard, shards } = layout.zero;
  const { start, end } = sliceOf(size, shard, shards);
  return [start, end];
}
