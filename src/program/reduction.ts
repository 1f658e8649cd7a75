/**
 * What a step does with gradients when they are complete, as operators (method 6.5, 6.6): per piece of a bucket a scatter of slices
 * (network) and their sum in rank order (compute), behind the backward pass; a gather (network), there too or ahead of the next
 * forward pass; and ahead of that the optimiser's step (compute). Between the two steps lies the only thing that needs all
 * gradients: their norm.
 */
import { ProgramBuilder } from "./builder.js";
import { gradientsWritten } from "./gradients.js";
import type { GatherData, Group, PieceData } from "./kinds.js";
import type { Program } from "./program.js";
import { weightsRead } from "./weights-read.js";
import type { OperatorClass, Work } from "./work.js";

export interface ReductionBucket {
  readonly name: string;
  /** Families of the parameters in it, as operators name them. */
  readonly families: readonly string[];
  /** Of its gradients, f32 or as a plan has them. */
  readonly bytes: number;
  readonly group: Group;
  /** Ranks that hold a copy; buckets with one copy are not reduced. */
  readonly ranks: number;
  /** Gradients are gathered and every rank updates all; or (ZeRO-1) each rank updates its slice, and weights are gathered. */
  readonly gathers: "gradients" | "weights";
  /** Gradients are gathered in the step that sums them. Default: in the next one (`dealGathers`). */
  readonly gathersAtOnce?: boolean;
  /** Of gradients on the network. Weights keep their type. */
  readonly wire: "f32" | "bf16";
  /** Elements that a rank updates: all, or (ZeRO-1) its slice. */
  readonly updated: number;
  /** Most pieces that it is cut into. */
  readonly maxPieces: number;
}

/** Bytes of a piece on the network: a dispatch that is ready waits for no more than what is under way. */
const PIECE_BYTES = 2 ** 19;
/** Per element: gradient, weight (f32, and 2 bytes where a device computes with those) and two moments, read and written. */
const UPDATE_BYTES = 28;

/**
 * Forward passes send more for what they compute than backward passes do. So buckets that are complete in the first half of
 * the backward pass are gathered behind the rest of it, and the others behind the next forward pass.
 */
export function dealGathers(program: Program, buckets: readonly ReductionBucket[]): ReductionBucket[] {
  const backward = program.operators.filter(({ pass }) => pass === "backward");
  const middle = backward[backward.length >> 1]?.id ?? 0;
  const late = new Set(backward.filter(({ id }) => id >= middle).flatMap(gradientsWritten));
  return buckets.map((bucket) => ({
    ...bucket,
    gathersAtOnce: bucket.gathers === "gradients" && !bucket.families.some((family) => late.has(family)),
  }));
}

/**
 * Appends the scatter half of gradient reduction, and the gather half of buckets that are gathered at once. A bucket may start once every operator that adds to its gradients has
 * finished, so an overlapping schedule hides it behind the rest of the backward pass.
 */
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
  for (const { bucket, after } of ready)
    for (const { label, data } of piecesOf(bucket, bucket.wire))
      addScatter(builder, bucket, { label, data, after });
  return builder.build(program.name);
}

interface Piece {
  /** For names: nothing where a bucket is not cut. */
  readonly label: string;
  readonly data: PieceData;
}

function piecesOf(bucket: ReductionBucket, wire: PieceData["wire"]): Piece[] {
  const { name, group } = bucket;
  const pieces = Math.min(bucket.maxPieces, Math.max(1, Math.ceil(sentBytes(bucket, wire) / PIECE_BYTES)));
  return Array.from({ length: pieces }, (_, piece) => ({
    label: pieces === 1 ? name : `${name}.${piece}`,
    data: { bucket: name, group, piece, pieces, wire },
  }));
}

/** Sending all slices but the own: (ranks − 1) / ranks of the bucket. */
function sentBytes({ bytes, ranks }: ReductionBucket, wire: PieceData["wire"]): number {
  return ((wire === "bf16" ? bytes / 2 : bytes) * (ranks - 1)) / ranks;
}

function sendingWork(of: OperatorClass, bucket: ReductionBucket, { wire, pieces }: PieceData): Work {
  return { class: of, flops: 0, bytes: sentBytes(bucket, wire) / pieces };
}

function addScatter(
  builder: ProgramBuilder,
  bucket: ReductionBucket,
  { label, data, after }: Piece & { readonly after: readonly number[] },
): void {
  const { bytes, ranks, gathers, gathersAtOnce } = bucket;
  const { pieces, wire } = data;
  const slices = builder.value(`${label}.slices`, bytes / pieces / (wire === "bf16" ? 2 : 1));
  builder.add({
    name: `reduce ${label}.scatter`,
    kind: "reduce-scatter",
    pass: "backward",
    reads: [],
    writes: [slices],
    after,
    work: sendingWork("reduce-scatter", bucket, data),
    data: { ...data, output: slices },
  });
  const sum = builder.add({
    name: `reduce ${label}.sum`,
    kind: "reduce-sum",
    pass: "backward",
    reads: [slices],
    writes: [],
    work: { class: "reduce-sum", flops: 0, bytes: (bytes + bytes / ranks) / pieces },
    data: { ...data, input: slices, isRounded: wire === "bf16" && gathers === "gradients" },
  });
  if (gathersAtOnce) addGather(builder, bucket, { label, data }, { part: "gradients", after: [sum] });
}

/** A program that begins with the update of the weights, and the value that it is fed with (`UpdateData`). */
export interface UpdatingProgram {
  readonly program: Program;
  readonly update: number;
}

/**
 * Puts what the step before has left to be done ahead of a program: per bucket the gather half, and the optimiser's step. An operator
 * waits for no more than the weights that it reads. Values keep their ids.
 * @param program which may have no operators
 * @param options `clears`: gradients are left at zero, for the program to add to
 */
export function withUpdates(
  program: Program,
  buckets: readonly ReductionBucket[],
  { clears }: { readonly clears: boolean },
): UpdatingProgram {
  const firstReader = new Map<string, number>();
  for (const op of program.operators)
    for (const family of weightsRead(op)) if (!firstReader.has(family)) firstReader.set(family, op.id);
  const wantedAt = ({ families }: ReductionBucket): number =>
    Math.min(...families.map((family) => firstReader.get(family) ?? Infinity));

  const builder = new ProgramBuilder({ ...program, operators: [] });
  const update = builder.value("update", 64);
  /** By family: the operators after which its weights are new on this rank. */
  const updated = new Map<string, readonly number[]>();
  for (const bucket of buckets.toSorted((a, b) => compare(wantedAt(a), wantedAt(b)))) {
    const { gathers, gathersAtOnce, ranks } = bucket;
    const isShared = ranks > 1;
    const gathered =
      isShared && gathers === "gradients" && !gathersAtOnce
        ? addGathers(builder, bucket, { part: "gradients", after: [] })
        : [];
    const stepped = builder.add({
      name: `update ${bucket.name}`,
      kind: "update",
      pass: "backward",
      reads: [update],
      writes: [],
      after: gathered,
      work: { class: "update", flops: 0, bytes: UPDATE_BYTES * bucket.updated },
      data: { bucket: bucket.name, update, clears },
    });
    const done =
      isShared && gathers === "weights"
        ? addGathers(builder, bucket, { part: "weights", after: [stepped] })
        : [stepped];
    for (const family of bucket.families) updated.set(family, [...(updated.get(family) ?? []), ...done]);
  }
  const first = builder.nextId;
  for (const op of program.operators) {
    const after = new Set(op.after.map((id) => first + id));
    for (const family of weightsRead(op)) for (const id of updated.get(family) ?? []) after.add(id);
    builder.add({ ...op, after: [...after].sort((a, b) => a - b) });
  }
  return { program: builder.build(program.name), update };
}

/** A whole step: what the one before has left, the program, and its gradients to their owners. */
export function wholeStep(program: Program, buckets: readonly ReductionBucket[]): UpdatingProgram {
  const dealt = dealGathers(program, buckets);
  return withUpdates(withReduction(program, dealt), dealt, { clears: true });
}

/** Infinity is not less than itself, nor can it be subtracted. */
function compare(a: number, b: number): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

interface Gathering {
  readonly part: GatherData["part"];
  readonly after: readonly number[];
}

/** @returns the ids of the pieces' operators */
function addGathers(builder: ProgramBuilder, bucket: ReductionBucket, how: Gathering): number[] {
  const wire = how.part === "gradients" ? bucket.wire : "f32";
  return piecesOf(bucket, wire).map((piece) => addGather(builder, bucket, piece, how));
}

function addGather(
  builder: ProgramBuilder,
  bucket: ReductionBucket,
  { label, data }: Piece,
  { part, after }: Gathering,
): number {
  const isGradients = part === "gradients";
  return builder.add({
    name: isGradients ? `reduce ${label}.gather` : `weights ${label}`,
    kind: "all-gather",
    pass: "backward",
    reads: [],
    writes: [],
    after,
    work: sendingWork(isGradients ? "all-gather" : "weights", bucket, data),
    data: { ...data, part },
  });
}
