/** What one has seen: the tour's figures, all from the two trainings, and the three sentences that say them. */
import type { TimelineSummary } from "../../timeline/timeline.js";
import type { Trained } from "../../api/train.js";
import { percent } from "../options.js";
import { type CourseStep, stepsAfter, stretch } from "./course.js";
import { wholeNumber } from "./live-table.js";

/** A training that was not interrupted. */
export interface EndedTraining extends Pick<Trained, "tokensPerSecond" | "validationLoss" | "timing"> {
  /** As sentences call the model. */
  readonly name: string;
  readonly course: readonly CourseStep[];
}

export interface ModelFigures {
  readonly name: string;
  readonly steps: number;
  /** Of all training steps; evaluation and saving do not count. */
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly stepMs: number;
  /** Part of a step in which compute waited for the network. */
  readonly waitingShare: number;
  /** Part of communication behind compute; null where nothing was sent. */
  readonly hiddenShare: number | null;
  readonly validationLoss: number;
  /** When the faster one had done all its steps: how far this one was, and the mean loss of its last steps. */
  readonly atEqualTime: { readonly step: number; readonly trainLoss: number };
}

export interface TourFigures {
  /** The baseline, and what is compared with it. */
  readonly models: readonly [ModelFigures, ModelFigures];
  /** Ratio of tokens/s: whole steps, with reduction, clipping and AdamW. */
  readonly speedUp: number;
  /** Seconds after which the faster one had done all its steps. */
  readonly equalTimeSeconds: number;
}

/** Steps over which a training loss is taken: one step says little. */
const RECENT_STEPS = 20;

/** Ratios within this of 1, and losses within this of each other, are called the same. */
const SAME_SPEED = 0.02;
const SAME_LOSS = 0.02;
/** A smaller part of a step is hardly noticed. */
const HARDLY = 0.05;
/** Hiding less of communication is "only". */
const HALF = 0.5;

const NO_TIMING: TimelineSummary = {
  stepMs: NaN,
  computeMs: NaN,
  communicationMs: 0,
  exposedMs: NaN,
  lateMs: NaN,
  overlapShare: 1,
};

export function tourFigures(baseline: EndedTraining, other: EndedTraining): TourFigures {
  const ends = [baseline, other].map(({ course }) => course.at(-1)?.seconds ?? NaN);
  const equalTimeSeconds = Math.min(...ends);
  const models = [modelFigures(baseline, equalTimeSeconds), modelFigures(other, equalTimeSeconds)] as const;
  const speedUp = models[1].tokensPerSecond / models[0].tokensPerSecond;
  return { models, speedUp, equalTimeSeconds };
}

function modelFigures(
  { name, course, tokensPerSecond, validationLoss, timing }: EndedTraining,
  equalTimeSeconds: number,
): ModelFigures {
  const { stepMs, exposedMs, communicationMs, overlapShare } = timing ?? NO_TIMING;
  const { step, loss } = stretch(course, RECENT_STEPS, stepsAfter(course, equalTimeSeconds));
  return {
    name,
    steps: course.length,
    seconds: course.at(-1)?.seconds ?? NaN,
    tokensPerSecond: tokensPerSecond ?? NaN,
    stepMs,
    waitingShare: exposedMs / stepMs,
    hiddenShare: communicationMs === 0 ? null : overlapShare,
    validationLoss: validationLoss ?? NaN,
    atEqualTime: { step, trainLoss: loss },
  };
}

/** Waiting and hiding; speed; losses. Each says what was measured, also where that is not what one hopes for. */
export function tourSentences(figures: TourFigures): [string, string, string] {
  return [waitingSentence(figures), speedSentence(figures), lossSentence(figures)];
}

function waitingSentence({ models: [baseline, other] }: TourFigures): string {
  if (baseline.hiddenShare === null && other.hiddenShare === null)
    return `Neither ${baseline.name} nor ${other.name} sent anything between ranks, so there was nothing to wait for.`;
  const waiting = percent(baseline.waitingShare);
  const isShort = baseline.waitingShare < HARDLY;
  const waited = `In a step of ${baseline.name} (${baseline.stepMs.toFixed(0)} ms) compute ${isShort ? "hardly waited" : "waited"} for the network, ${waiting} of the time`;
  if (other.hiddenShare === null) return `${waited}; ${other.name} sent nothing between ranks.`;
  const only = other.hiddenShare < HALF ? "only " : "";
  const isLonger = other.waitingShare * other.stepMs > baseline.waitingShare * baseline.stepMs;
  return `${waited}; ${other.name} hid ${only}${percent(other.hiddenShare)} of its communication behind compute, and waited ${isLonger ? "longer, " : ""}${percent(other.waitingShare)} of its ${other.stepMs.toFixed(0)} ms.`;
}

function speedSentence({ models: [baseline, other], speedUp }: TourFigures): string {
  const ratio = `${speedUp.toFixed(2)} ×`;
  const how =
    Math.abs(speedUp - 1) <= SAME_SPEED
      ? `was neither faster nor slower (${ratio})`
      : speedUp > 1
        ? `trained ${ratio} as fast`
        : `was not faster but slower (${ratio})`;
  const rates = [other, baseline].map(({ tokensPerSecond }) => wholeNumber(tokensPerSecond));
  const seconds = [other, baseline].map((model) => model.seconds.toFixed(0));
  return `On the same link ${other.name} ${how}, gradient reduction, clipping and AdamW included: ${rates[0]} tokens/s against ${rates[1]}, and ${seconds[0]} s for its ${other.steps} steps against ${seconds[1]} s.`;
}

function lossSentence({ models, equalTimeSeconds }: TourFigures): string {
  const [baseline, other] = models;
  const [ahead, behind] = other.seconds <= baseline.seconds ? [other, baseline] : [baseline, other];
  const { step, trainLoss } = behind.atEqualTime;
  const [theirs, leading] = [trainLoss, ahead.atEqualTime.trainLoss];
  return [
    `After as many steps ${other.name}'s validation loss is ${other.validationLoss.toFixed(3)},`,
    `${comparedLoss(other.validationLoss, baseline.validationLoss)} ${baseline.name}'s ${baseline.validationLoss.toFixed(3)};`,
    `after as much time, the ${equalTimeSeconds.toFixed(0)} s that ${ahead.name} took for all its steps,`,
    `${behind.name} was at step ${step} with a training loss of ${theirs.toFixed(3)},`,
    `${comparedLoss(theirs, leading)} ${ahead.name}'s ${leading.toFixed(3)}.`,
  ].join(" ");
}

/** "0.123 nats lower than": the difference of the two as they are shown. */
function comparedLoss(loss: number, other: number): string {
  const difference = Math.abs(Number(loss.toFixed(3)) - Number(other.toFixed(3)));
  if (difference <= SAME_LOSS) return `within ${SAME_LOSS} nats of`;
  return `${difference.toFixed(3)} nats ${loss < other ? "lower" : "higher"} than`;
}
