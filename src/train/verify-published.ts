/**
 * Compares a published model with what another implementation computed with it: logits, loss, the likeliest continuation,
 * and gradients of the loss.
 */
import { join } from "node:path";
import { singleCommunicator } from "../comm/single.js";
import { InputError } from "../core/errors.js";
import { type Tensor, numElements } from "../core/tensor.js";
import { TOKENIZER_CASES, type TokenizerReport, verifyTokenizer } from "../data/verify-tokenizer.js";
import type { Engine } from "../engine/engine.js";
import { NextToken } from "../infer/next-token.js";
import { OneSequence } from "../infer/one-sequence.js";
import { buildProgram } from "../model/language-model.js";
import { familyNamed } from "../model/families/index.js";
import { loadWeights } from "../run/load-weights.js";
import { openModel } from "../run/open-model.js";
import { publishedPlaces } from "../run/published-weights.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { exists } from "../storage/files.js";
import { distance, largestDistance, norm2, relative } from "./distance.js";
import { type PublishedCase, openCase } from "./published-case.js";
import { forwardBackward } from "./step.js";
import { openStep } from "./step-sessions.js";
import { type Trainee, createTrainee } from "./trainee.js";

/** Relative: of all logits or of one gradient ‖a − b‖/‖b‖, and of logits max |a − b| / max |b| besides. */
export const PUBLISHED_TOLERANCE = { logits: 1e-5, loss: 1e-5, gradient: 1e-4 } as const;

/** What a comparison of a published model found. */
export interface PublishedReport {
  readonly kind: "published model";
  readonly directory: string;
  readonly family: string;
  readonly arch: string;
  readonly passed: boolean;
  /** What did not agree, one line each. */
  readonly failures: readonly string[];
  /** What there was nothing to compare with. */
  readonly notCompared: readonly string[];
  readonly tolerance: typeof PUBLISHED_TOLERANCE;
  /** ‖a − b‖/‖b‖, and max |a − b| / max |b|. */
  readonly logits: { readonly norm: number; readonly largest: number } | null;
  readonly loss: { readonly found: number; readonly wanted: number; readonly error: number } | null;
  /** Tokens after the prompt that are the same, of how many: the whole context computed anew for each, and over a cache. */
  readonly greedy: { readonly equal: number; readonly cached: number; readonly of: number } | null;
  /** By the names of the files. */
  readonly gradients: readonly {
    readonly name: string;
    readonly error: number;
    /** Zero but for rounding on both sides: not judged. */
    readonly undetermined: boolean;
  }[];
  /** Of its tokenizer, where there are cases of it. */
  readonly tokenizer: TokenizerReport | null;
}

/** @throws InputError when the folder is damaged or not supported, or files do not fit each other */
export function verifyPublished(directory: string, engine: Engine): PublishedReport {
  const model = openModel(directory);
  const config = { ...model.config, capacity_factor: null, router_aux_loss_coef: 0, router_z_loss_coef: 0 };
  const rank = createTrainee({ config, engine, world: singleCommunicator() });
  loadWeights(rank, model.source);
  model.close();
  if (model.family === undefined)
    throw new InputError(`${directory} is no published model: compare its run's fixture instead`);
  const found = openCase(model.directory, config);
  const hasCases = TOKENIZER_CASES.every((file) => exists(join(directory, file)));
  try {
    const tokenizer = hasCases ? verifyTokenizer(directory) : null;
    const judgement = judged(compare(rank, found, model.family));
    return {
      kind: "published model",
      directory,
      family: model.family,
      arch: config.arch,
      tolerance: PUBLISHED_TOLERANCE,
      tokenizer,
      ...judgement,
      passed: judgement.passed && (tokenizer?.passed ?? true),
    };
  } finally {
    found.close();
  }
}

type Findings = Pick<PublishedReport, "logits" | "loss" | "greedy" | "gradients" | "notCompared"> & {
  /** Gradients that only one side has. */
  readonly oneSided: readonly string[];
};

function compare(rank: Trainee, given: PublishedCase, family: string): Findings {
  const logits = computeLogits(rank, given);
  const { labels, loss: wanted } = given;
  const loss = labels && wanted !== undefined ? { found: lossOf(logits, labels), wanted } : undefined;
  const gradients = given.gradients && compareGradients(rank, given, family);
  const missing = {
    "logits: case.safetensors has none": given.logits,
    "loss: case.safetensors has no labels or no loss": loss,
    "greedy tokens: case.safetensors has none": given.greedy,
    "gradients: there is no gradients.safetensors, or there are no labels": gradients,
  };
  return {
    logits: given.logits
      ? { norm: distance(logits, given.logits), largest: largestDistance(logits, given.logits) }
      : null,
    loss: loss ? { ...loss, error: relative(loss.found, loss.wanted) } : null,
    greedy: given.greedy ? compareGreedy(rank, given, given.greedy) : null,
    gradients: gradients?.errors ?? [],
    oneSided: gradients?.oneSided ?? [],
    notCompared: Object.entries(missing).flatMap(([text, value]) => (value === undefined ? [text] : [])),
  };
}

function judged({ oneSided, ...found }: Findings): Findings & Pick<PublishedReport, "passed" | "failures"> {
  const failures = [...oneSided];
  const check = (what: string, error: number, tolerance: number): void => {
    // Not "error > tolerance": a NaN must fail.
    if (!(error <= tolerance))
      failures.push(`${what}: error ${error.toExponential(1)}, tolerance ${tolerance}`);
  };
  const { logits, loss, greedy, gradients } = found;
  if (logits !== null) {
    check("logits", logits.norm, PUBLISHED_TOLERANCE.logits);
    check("largest of the logits", logits.largest, PUBLISHED_TOLERANCE.logits);
  }
  if (loss !== null) check("loss", loss.error, PUBLISHED_TOLERANCE.loss);
  if (greedy !== null)
    for (const [how, equal] of [
      ["", greedy.equal],
      [" over a cache", greedy.cached],
    ] as const)
      if (equal < greedy.of)
        failures.push(`greedy tokens${how}: ${equal} of ${greedy.of} are equal, wanted all`);
  for (const { name, error, undetermined } of gradients)
    if (!undetermined) check(`gradient of ${name}`, error, PUBLISHED_TOLERANCE.gradient);
  return { ...found, oneSided, failures, passed: failures.length === 0 };
}

/** [batch, sequence, vocabulary] */
function computeLogits(rank: Trainee, { ids, batch, sequence }: PublishedCase): Float32Array {
  const model = buildProgram(rank.config, { batch, sequence, epSize: 1, head: "logits" });
  const session = new Session(rank, model.program, { keep: [model.output] });
  const run = session.run(
    sequential(model.program),
    new Map([[model.tokens, { data: ids, dims: [ids.length] }]]),
  );
  const logits = Float32Array.from(run.read<Tensor<Float32Array>>(model.output).data);
  run.release();
  return logits;
}

function lossOf(logits: Float32Array, labels: Int32Array): number {
  const width = logits.length / labels.length;
  let sum = 0;
  labels.forEach((label, row) => {
    const scores = logits.subarray(row * width, (row + 1) * width);
    const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
    const total = scores.reduce((all, x) => all + Math.exp(x - largest), 0);
    sum += Math.log(total) + largest - scores[label];
  });
  return sum / labels.length;
}

/** Always the likeliest token, from the first row of the ids. */
function compareGreedy(
  rank: Trainee,
  { ids, sequence }: PublishedCase,
  wanted: Int32Array,
): NonNullable<PublishedReport["greedy"]> {
  const prompt = [...ids.subarray(0, sequence)];
  const equalOf = (next: (context: readonly number[]) => Float32Array): number => {
    const context = [...prompt];
    while (context.length < wanted.length) {
      const logits = next(context);
      context.push(logits.indexOf(logits.reduce((a, b) => Math.max(a, b))));
    }
    return context.filter((id, i) => i >= sequence && id === wanted[i]).length;
  };
  const anew = new NextToken(rank);
  const cached = new OneSequence(rank, rank.config, wanted.length);
  return {
    equal: equalOf((context) => anew.logits(context)),
    cached: equalOf((context) => cached.read(context.length === sequence ? context : context.slice(-1))),
    of: wanted.length - sequence,
  };
}

/** Rounding noise beside the gradient of the whole model. */
const NOISE = 1e-6;

function compareGradients(
  rank: Trainee,
  { ids, labels, batch, sequence, gradients: file }: PublishedCase,
  family: string,
): { errors: PublishedReport["gradients"]; oneSided: string[] } {
  if (file === undefined || labels === undefined) return { errors: [], oneSided: [] };
  const sessions = openStep(rank, { batch, sequence, epSize: 1 }, sequential);
  forwardBackward(rank, sessions, [{ tokens: ids, labels, firstToken: 0 }], { step: 0, seed: 0 });
  const found = new Map(
    file.names.map((name) => [name, new Float32Array(numElements(file.info(name).dims))]),
  );
  const used = new Set<string>();
  const oneSided: string[] = [];
  const whole = Math.hypot(...file.names.map((name) => norm2(file.readF32(name))));
  for (const { tensors } of rank.weights.buckets)
    for (const { info } of tensors) {
      const gradient = rank.gradients.gradient(info.name);
      const places = publishedPlaces(familyNamed(family), rank.config, info.name);
      const place = places.find(({ name }) => found.has(name));
      if (place === undefined) {
        if (norm2(gradient) > NOISE * whole)
          oneSided.push(`gradient of ${places[0].name}: the file has none, and it is not zero`);
        continue;
      }
      const target = found.get(place.name) as Float32Array;
      const { slice } = place;
      const at = slice === undefined ? 0 : (slice.expert * slice.parts + slice.part) * gradient.length;
      if (at + gradient.length > target.length || (slice === undefined && target.length !== gradient.length))
        throw new InputError(
          `${file.path}: tensor "${place.name}" is [${file.info(place.name).dims.join(", ")}], which is not the shape of the model's`,
        );
      target.set(gradient, at);
      used.add(place.name);
    }
  // What the model does not have: nothing must depend on it.
  for (const name of file.names)
    if (!used.has(name) && norm2(file.readF32(name)) > NOISE * whole)
      oneSided.push(`gradient of ${name}: it is not zero, and the model has no such tensor`);
  const errors = [...used].map((name) => {
    const [ours, theirs] = [found.get(name) as Float32Array, file.readF32(name)];
    const undetermined = norm2(ours) < NOISE * whole && norm2(theirs) < NOISE * whole;
    return { name, error: distance(ours, theirs), undetermined };
  });
  return { errors, oneSided };
}
