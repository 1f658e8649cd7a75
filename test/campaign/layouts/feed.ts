/** What a case is fed: weights and tokens, numbers of the seed alone, whoever holds them. */
import { type Random, philox } from "../../../src/core/rng.js";
import { documentStarts } from "../../../src/data/batches.js";
import type { MicroBatch } from "../../../src/train/micro-batch.js";
import type { Trainee } from "../../../src/train/trainee.js";
import { type Case, VOCABULARY } from "./case.js";

const END_OF_TEXT = 0;

/** Rows of rank r in micro-batch m: sequences (m · ranks + r) · batch … of the step. */
export function piece(
  of: Case,
  step: number,
  at: { readonly micro: number; readonly rank: number },
): MicroBatch {
  return rows(of, step, { first: (at.micro * of.ranks + at.rank) * of.batch, count: of.batch });
}

/** @param range sequences of the step */
export function rows(
  of: Case,
  step: number,
  range: { readonly first: number; readonly count: number },
): MicroBatch {
  const { sequence: S, documents, seed } = of;
  const random = philox(seed, `tokens ${step}`);
  const T = range.count * S;
  const id = (row: number, place: number): number =>
    random.u32((range.first + row) * (S + 1) + place) % VOCABULARY;
  const tokens = Int32Array.from({ length: T }, (_, t) => id(Math.floor(t / S), t % S));
  const labels = Int32Array.from({ length: T }, (_, t) => id(Math.floor(t / S), (t % S) + 1));
  // Documents as short as these are told apart often.
  if (documents) for (let t = 0; t < T; t++) if (tokens[t] % 5 === 0) tokens[t] = END_OF_TEXT;
  return {
    tokens,
    labels,
    firstToken: range.first * S,
    ...(documents ? { starts: documentStarts(tokens, S, END_OF_TEXT) } : {}),
  };
}

/** Sequences of a step, over all ranks. */
export function sequencesOf({ microBatches, ranks, batch }: Case): number {
  return microBatches * ranks * batch;
}

/** Of an f32's last place, relative: one above it rounds to the next number, or stays. */
const HALF_UNIT = 2 ** -24;

/** The same weights on any layout: none is 0 or 1, gates decide. Moments are zero. */
export function setWeights(rank: Trainee, of: Case, isNudged = false): void {
  for (const bucket of rank.weights.buckets)
    for (const { info, offset, size } of bucket.tensors) {
      const view = bucket.weights.subarray(offset, offset + size);
      weightsOf(of, info.name).fillNormal(view, 0, DEVIATION[info.init]);
      if (info.init === "ones") view.forEach((x, i) => (view[i] = 1 + x));
      if (of.twist === "ties in the gate" && isGate(info.name)) view.fill(0);
      if (isNudged) view.forEach((x, i) => (view[i] = x * (1 + (i % 2 === 0 ? HALF_UNIT : -HALF_UNIT))));
    }
  for (const { info, data } of rank.weights.buffers.values()) {
    weightsOf(of, info.name).fillNormal(data, 0, 0.05);
    steer(of, data);
  }
  for (const { expAvg, expAvgSq } of rank.moments.values()) {
    expAvg.fill(0);
    expAvgSq.fill(0);
  }
}

function weightsOf({ seed, attempt }: Case, name: string): Random {
  return philox(seed + attempt * 2 ** 32, name);
}

/** The first element of a matrix. */
export function firstWeight(of: Case, name: string): number {
  return DEVIATION.normal * weightsOf(of, name).normal(0);
}

const DEVIATION = { normal: 0.2, zeros: 0.1, ones: 0.1 };

/** Of the matrix that makes a gate's logits. */
export function isGate(name: string): boolean {
  return name.endsWith(".gate.weight");
}

/** Selection biases that send tokens where a twist wants them. */
function steer(of: Case, bias: Float32Array): void {
  const { twist } = of;
  const expert = chosenExpert(of);
  if (twist === "a rank that gets no token" || twist === "all tokens to one expert with one row")
    bias[expert] = 10;
  if (twist === "an expert without tokens") bias[expert] = -10;
  if (twist === "ties in the gate") bias.fill(0);
}

/** The expert that a twist is about. */
export function chosenExpert({ seed, model: { num_experts = 1 } }: Case): number {
  return Math.floor(seed / 7) % num_experts;
}
