/** Gradient buckets in pieces: slices to owners, summed there, gathered; and the optimiser's step on a bucket. */
import type { Communicator, Regions } from "../../comm/communicator.js";
import { type Slice, bytesToOthers, fromEach, pieceOf, slicesOf, sliceToEach } from "../../comm/regions.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type Services, computing } from "../context.js";
import type { Allocation } from "../memory.js";
import type { Bucket } from "../weights.js";

export function bindScatter(op: OperatorOf<"reduce-scatter">, services: Services): Run {
  const { memory } = services;
  const place = placeOf(op, services);
  const { group, gradients, own } = place;
  const halves = op.data.wire === "bf16" ? new Halves(place, services) : undefined;
  return (context) => {
    const words = halves === undefined ? own.end - own.start : wordsOf(own);
    const slices = memory.allocate(words * group.size);
    const lent = halves?.allocate();
    const send =
      halves === undefined || lent === undefined
        ? slicesOf(gradients, group.size, op.data)
        : halves.packed(lent, place.ofRanks);
    return {
      pending: group.exchange({ label: op.name, send, recv: fromEach(slices.u8, group.size, words * 4) }),
      queue: group,
      bytes: bytesToOthers(send.bytes, group.rank),
      finish() {
        if (lent !== undefined) memory.release(lent);
        context.write(op.data.output, slices, [slices]);
      },
    };
  };
}

export function bindSumSlices(op: OperatorOf<"reduce-sum">, services: Services): Run {
  const { engine, memory } = services;
  const place = placeOf(op, services);
  const { wire, isRounded, input } = op.data;
  const sum = place.gradients.subarray(place.own.start, place.own.end);
  const { size } = place.group;
  if (wire === "f32")
    return computing((context) => {
      const { f32 } = context.read<Allocation>(input);
      sum.set(f32.subarray(0, sum.length));
      for (let rank = 1; rank < size; rank++)
        engine.routines.addInto(sum, f32.subarray(rank * sum.length, (rank + 1) * sum.length));
    });
  const words = wordsOf(place.own);
  return computing((context) => {
    const arrived = context.read<Allocation>(input);
    const wide = memory.allocate(sum.length);
    engine.routines.fromBf16(sum, halvesIn(arrived, 0, sum.length));
    for (let rank = 1; rank < size; rank++) {
      engine.routines.fromBf16(wide.f32, halvesIn(arrived, rank * words, sum.length));
      engine.routines.addInto(sum, wide.f32);
    }
    if (isRounded) {
      const rounded = halvesIn(wide, 0, sum.length);
      engine.routines.toBf16(rounded, sum);
      engine.routines.fromBf16(sum, rounded);
    }
    memory.release(wide);
  });
}

/** Each rank's slice, in place, to every rank. */
export function bindGather(op: OperatorOf<"all-gather">, services: Services): Run {
  const place = placeOf(op, services);
  const { group, bucket, gradients, own, ofRanks } = place;
  const { part, wire } = op.data;
  const array = part === "weights" ? bucket.weights : gradients;
  const started = (send: Regions, recv: Regions) => ({
    pending: group.exchange({ label: op.name, send, recv }),
    queue: group,
    bytes: bytesToOthers(send.bytes, group.rank),
  });
  if (wire === "f32")
    return () => ({
      ...started(sliceToEach(array, group.rank, group.size, op.data), slicesOf(array, group.size, op.data)),
      finish: () => undefined,
    });
  const halves = new Halves(place, services);
  return () => {
    const [out, into] = [halves.allocate(), halves.allocate()];
    // The same slice to every rank.
    const send = halves.packed(
      out,
      ofRanks.map(() => own),
    );
    return {
      ...started(send, halves.regions(into, ofRanks)),
      finish: () => halves.unpack(into, ofRanks, [out, into]),
    };
  };
}

/** On what this rank owns of a bucket. */
export function bindUpdate(op: OperatorOf<"update">, services: Services): Run {
  const { optimizer } = services;
  const { bucket, gradients } = bucketOf(op, services);
  if (optimizer === undefined) throw new Error(`${op.name}: this session has no optimiser`);
  return computing((context) => {
    optimizer(bucket, context.read(op.data.update));
    if (op.data.clears) gradients.fill(0);
  });
}

interface PlaceInBucket {
  readonly group: Communicator;
  readonly bucket: Bucket;
  readonly gradients: Float32Array;
  /** This rank's part of the piece, and every rank's: elements of the bucket. */
  readonly own: Slice;
  readonly ofRanks: readonly Slice[];
}

function placeOf(
  op: OperatorOf<"reduce-scatter" | "reduce-sum" | "all-gather">,
  services: Services,
): PlaceInBucket {
  const group = services[op.data.group];
  const { bucket, gradients } = bucketOf(op, services);
  const ofRanks = Array.from({ length: group.size }, (_, rank) =>
    pieceOf(bucket.size, rank, group.size, op.data),
  );
  return { group, bucket, gradients, own: ofRanks[group.rank], ofRanks };
}

function bucketOf(
  { name, data }: OperatorOf<"reduce-scatter" | "reduce-sum" | "all-gather" | "update">,
  { gradients }: Services,
): { readonly bucket: Bucket; readonly gradients: Float32Array } {
  if (gradients === undefined) throw new Error(`${name}: this session has no gradients`);
  const bucket = gradients.weights.buckets.find((b) => b.name === data.bucket);
  if (bucket === undefined) throw new Error(`${name}: there is no bucket ${data.bucket}`);
  return { bucket, gradients: gradients.bucket(bucket) };
}

/** Words that hold a slice in halves. */
function wordsOf({ start, end }: Slice): number {
  return Math.ceil((end - start) / 2);
}

function halvesIn({ f32 }: Allocation, word: number, length: number): Uint16Array {
  return new Uint16Array(f32.buffer, f32.byteOffset + word * 4, length);
}

/** Slices of a bucket's gradients in bf16, one after another, each at a whole word. */
class Halves {
  readonly #most: number;

  constructor(
    readonly place: PlaceInBucket,
    readonly services: Services,
  ) {
    this.#most = Math.max(...place.ofRanks.map(wordsOf));
  }

  allocate(): Allocation {
    return this.services.memory.allocate(this.#most * this.place.group.size);
  }

  regions({ u8 }: Allocation, slices: readonly Slice[]): Regions {
    return {
      buffer: u8,
      offsets: slices.map((_, i) => i * this.#most * 4),
      bytes: slices.map((slice) => wordsOf(slice) * 4),
    };
  }

  /** Rounds slices into memory. The half word behind an odd number of elements is never read. */
  packed(memory: Allocation, slices: readonly Slice[]): Regions {
    const { engine } = this.services;
    slices.forEach(({ start, end }, i) =>
      engine.routines.toBf16(
        halvesIn(memory, i * this.#most, end - start),
        this.place.gradients.subarray(start, end),
      ),
    );
    return this.regions(memory, slices);
  }

  unpack(memory: Allocation, slices: readonly Slice[], done: readonly Allocation[]): void {
    const { engine, memory: lender } = this.services;
    slices.forEach(({ start, end }, i) =>
      engine.routines.fromBf16(
        this.place.gradients.subarray(start, end),
        halvesIn(memory, i * this.#most, end - start),
      ),
    );
    for (const allocation of done) lender.release(allocation);
  }
}
