/** What was played on a layout beside what one rank played: where they differ by more than rounding. */
import { resolveModel } from "../../../src/model/config.js";
import { listParameters } from "../../../src/model/parameters.js";
import { type Case, type Twist, isRounded, piecesOf } from "./case.js";
import { chosenExpert, firstWeight, isGate } from "./feed.js";
import { type Choices, LEARNING_RATE, type Played, type PlayedStep, optimizerOf } from "./play.js";

/** Kinds of comparisons whose rounding differs. */
export type Class = "whole" | "pieces" | "bf16";

/**
 * Relative errors: of losses and the norm, of each tensor by ‖a − b‖ ≤ tolerance · ‖b‖ + noise · ‖whole‖.
 *
 * f32: 1e-5 is some 80 times the rounding of one operation (2⁻²³).
 *
 * bf16: both sides round each row on its way to 8 bits. Rounding of f32 before that may put a value on either side of a
 * boundary, and then it differs by one unit in the last place: at most 2⁻⁷ of it. An element in 2¹⁰ to 2¹⁴ does so, but a
 * tensor may owe its gradient to one row: 2⁻⁷ is the bound for a tensor. A loss is a mean over tokens whose rows are added
 * to a residual stream and that see few such elements: 2⁻¹⁰. The z-loss is a square: twice that.
 */
export const TOLERANCE: Readonly<Record<Class, { loss: number; tensor: number; tie: number }>> = {
  whole: { loss: 1e-5, tensor: 1e-5, tie: 1e-6 },
  pieces: { loss: 1e-5, tensor: 1e-5, tie: 1e-6 },
  bf16: { loss: 2 ** -10, tensor: 2 ** -7, tie: 1e-3 },
};
/** Beside all tensors' norm: rounding of what cancels. */
const NOISE = 1e-7;

export interface Comparison {
  readonly problems: readonly string[];
  /** Losses and tensors beyond their bounds. */
  readonly beyond: readonly string[];
  /** A tie within rounding sent a token elsewhere: nothing from there on can be compared. */
  readonly tie?: string | undefined;
  /** Largest errors, as far as they were compared. */
  readonly worst: Readonly<Record<"loss" | "gradient" | "weight" | "moment", number>>;
}

export function classOf(of: Case): Class {
  if (isRounded(of)) return "bf16";
  return piecesOf(of) === "whole" ? "whole" : "pieces";
}

export function compare(of: Case, layout: Played, one: Played): Comparison {
  const { loss: lossTolerance, tensor: tensorTolerance, tie: tieGap } = TOLERANCE[classOf(of)];
  const problems = [
    ...layout.problems,
    ...one.problems.map((what) => `one rank: ${what}`),
    ...inForce(of, layout),
  ];
  const beyond: string[] = [];
  const worst = { loss: 0, gradient: 0, weight: 0, moment: 0 };
  const tensors = (
    kind: "gradient" | "weight" | "moment",
    [found, wanted]: readonly ReadonlyMap<string, Float32Array>[],
    tolerance: number,
  ): void => {
    const whole = Math.hypot(...[...wanted.values()].map(norm));
    if ([...found.keys()].sort().join() !== [...wanted.keys()].sort().join())
      problems.push(`${kind}s of other tensors than on one rank`);
    for (const [name, b] of wanted) {
      const a = found.get(name) ?? b;
      const error = norm(a.map((x, i) => x - b[i])) / (norm(b) + (NOISE / tensorTolerance) * whole);
      worst[kind] = Math.max(worst[kind], error);
      if (!(error <= tolerance)) beyond.push(`${kind} of ${name} is off by ${error.toExponential(1)}`);
    }
  };
  for (const [s, wanted] of one.steps.entries()) {
    const found = layout.steps[s];
    const moved = movedToken(found, wanted, of);
    if (moved !== undefined && moved.gap < tieGap) {
      const tie = `step ${s}: ${moved.what}, ${moved.gap.toExponential(1)} apart`;
      return { problems, beyond, tie: problems.length + beyond.length === 0 ? tie : undefined, worst };
    }
    if (moved !== undefined) problems.push(`step ${s}: ${moved.what}, ${moved.gap.toExponential(1)} apart`);
    for (const key of LOSSES) {
      const error = Math.abs(found[key] - wanted[key]) / Math.max(Math.abs(wanted[key]), 1e-3);
      worst.loss = Math.max(worst.loss, error);
      const bound: Partial<Record<typeof key, number>> = {
        gradientNorm: tensorTolerance,
        zLoss: wireBound(of, lossTolerance),
      };
      const tolerance = bound[key] ?? lossTolerance;
      if (!(error <= tolerance))
        beyond.push(`step ${s}: ${key} is ${found[key]}, on one rank ${wanted[key]}`);
    }
    const [load, loadOfOne] = [found, wanted].map((step) => JSON.stringify(step.tokensPerExpert));
    if (moved === undefined && load !== loadOfOne)
      problems.push(`step ${s}: loads are ${load}, on one rank ${loadOfOne}`);
    if (s === 0) tensors("gradient", [layout.gradients, one.gradients], tensorTolerance);
  }
  tensors("weight", [layout.weights, one.weights], tensorTolerance);
  // Squares have twice the error.
  tensors("moment", [layout.moments, one.moments], 2 * tensorTolerance);
  for (const [name, bias] of one.buffers) {
    const other = layout.buffers.get(name);
    if (bias.some((x, i) => x !== other?.[i]))
      problems.push(`${name} is ${other?.join()}, on one rank ${bias.join()}`);
  }
  return { problems, beyond, worst };
}

/** Of the z-loss: rounded rows are squared in it. */
function wireBound(of: Case, lossTolerance: number): number {
  return isRounded(of) ? 2 * lossTolerance : lossTolerance;
}

/** Errors of arithmetic add up; those of one change of the weights do not. */
const ROUNDINGS = 4;

/**
 * Whether what is beyond its bounds is the case's own doing: on one rank, weights that differ by half a unit in their last place
 * lead beyond them, too, and about as far.
 * @param nudged one rank with such weights beside one with the case's
 */
export function isIllConditioned({ problems, beyond, worst }: Comparison, nudged: Comparison): boolean {
  const kinds = Object.keys(worst) as (keyof typeof worst)[];
  const isAsFar = kinds.every((kind) => worst[kind] <= Math.max(ROUNDINGS * nudged.worst[kind], NOISE));
  return problems.length === 0 && beyond.length > 0 && nudged.beyond.length > 0 && isAsFar;
}

const LOSSES = ["lmLoss", "balanceLoss", "zLoss", "loss", "gradientNorm"] as const;

function norm(values: Float32Array): number {
  let sum = 0;
  for (const x of values) sum += x * x;
  return Math.sqrt(sum);
}

interface Moved {
  readonly what: string;
  /** Between the two experts' scores, on one rank. */
  readonly gap: number;
}

/** The token whose experts differ by the most. */
function movedToken(found: PlayedStep, wanted: PlayedStep, { model }: Case): Moved | undefined {
  let most: Moved | undefined;
  const note = (what: string, gap: number): void => {
    if (most === undefined || gap > most.gap) most = { what, gap };
  };
  wanted.choices.forEach((b, routing) => {
    const a = found.choices[routing];
    const { numExperts: N, topK: K, probabilities: p } = b;
    const bias = wanted.biases[routing];
    for (let t = 0; t * K < b.choice.length; t++) {
      const score = (e: number): number => p[t * N + e] + bias[e];
      for (let j = 0; j < K; j++) {
        const [x, y] = [a.choice[t * K + j], b.choice[t * K + j]];
        if (x !== y)
          note(`routing ${routing} sends token ${t} to ${x} instead of ${y}`, Math.abs(score(x) - score(y)));
        else if (a.isKept[t * K + j] !== b.isKept[t * K + j])
          note(`routing ${routing} ${a.isKept[t * K + j] ? "keeps" : "drops"} token ${t}`, 0);
      }
      const [x, y] = [likeliest(a, t), likeliest(b, t)];
      if (model.balance === "aux" && x !== y)
        note(
          `routing ${routing} counts token ${t} for ${x} instead of ${y}`,
          Math.abs(p[t * N + x] - p[t * N + y]),
        );
    }
  });
  return most;
}

function likeliest({ probabilities: p, numExperts: N }: Choices, t: number): number {
  let best = 0;
  for (let i = 1; i < N; i++) if (p[t * N + i] > p[t * N + best]) best = i;
  return best;
}

/** Whether a case's twist happened, and what must be true of it beside any other layout. */
function inForce(of: Case, played: Played): string[] {
  const complaints = of.twist === undefined ? [] : (IN_FORCE[of.twist]?.(of, played) ?? []);
  return complaints.map((what) => `${of.twist}: ${what}`);
}

const IN_FORCE: Readonly<Partial<Record<Twist, (of: Case, played: Played) => string[]>>> = {
  "a rank that gets no token": (of, played) =>
    wrongLoads(played, (rows, e) => e === chosenExpert(of) || rows === 0),
  "all tokens to one expert with one row": (of, played) =>
    wrongLoads(played, (rows, e) => rows === (e === chosenExpert(of) ? of.ranks * of.microBatches : 0)),
  "an expert without tokens": (of, { steps, gradients, weights }) => {
    const decay = (1 - LEARNING_RATE * optimizerOf(of).weight_decay) ** steps.length;
    const idle = listParameters(resolveModel(of.model)).filter(({ expert }) => expert === chosenExpert(of));
    return idle.flatMap(({ name, dims }) => {
      if (gradients.get(name)?.every((g) => g === 0) !== true) return [`the gradient of ${name} is not zero`];
      if (dims.length < 2) return [];
      const error = Math.abs((weights.get(name)?.[0] ?? NaN) / (firstWeight(of, name) * decay) - 1);
      return error < 1e-6 ? [] : [`${name} has not decayed: off by ${error.toExponential(1)}`];
    });
  },
  "ties in the gate": ({ model }, { steps }) =>
    steps[0].choices.flatMap(({ choice, topK, numExperts }) =>
      choice.every((e, i) => e === i % topK) ||
      // DGMoE's second routing must not choose what the first did; without it, its group may not be the best.
      (model.arch.startsWith("dgmoe") &&
        [1, numExperts / (model.expert_groups ?? 1)].some((e) => choice.every((x) => x === e)))
        ? []
        : [`tokens go to ${choice.slice(0, 2 * topK).join()} …`],
    ),
  "k = 1 whose gate learns": (_, { gradients }) => {
    const whole = Math.hypot(...[...gradients.values()].map(norm));
    return [...gradients]
      .filter(([name, g]) => isGate(name) && !(norm(g) > 1e-4 * whole))
      .map(([name, g]) => `the gradient of ${name} is ${norm(g)} of ${whole}`);
  },
};

function wrongLoads({ steps }: Played, isRight: (rows: number, expert: number) => boolean): string[] {
  return steps
    .flatMap(({ tokensPerExpert }) => tokensPerExpert)
    .filter((load) => !load.every(isRight))
    .map((load) => `the load is ${load.join()}`);
}
