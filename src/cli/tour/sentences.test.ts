import { expect, it } from "vitest";
import {
  type EndedTraining,
  type ModelFigures,
  type TourFigures,
  tourFigures,
  tourSentences,
} from "./sentences.js";

const TOP2: ModelFigures = {
  ...{ name: "top-2", steps: 260, seconds: 104.4, tokensPerSecond: 5120.4, stepMs: 400, waitingShare: 0.48 },
  ...{ hiddenShare: 0, validationLoss: 4.6, atEqualTime: { step: 171, trainLoss: 4.912 } },
};
const SCMOE: ModelFigures = {
  ...{ name: "ScMoE", steps: 260, seconds: 65.25, tokensPerSecond: 8192.6, stepMs: 250, waitingShare: 0.04 },
  ...{ hiddenShare: 0.94, validationLoss: 4.589, atEqualTime: { step: 260, trainLoss: 4.55 } },
};

const figures = (
  top2: Partial<ModelFigures> = {},
  scmoe: Partial<ModelFigures> = {},
  more: Partial<TourFigures> = {},
): TourFigures => ({
  models: [
    { ...TOP2, ...top2 },
    { ...SCMOE, ...scmoe },
  ],
  ...{ speedUp: 1.6, equalTimeSeconds: 65.25, ...more },
});

it("says in three sentences what one has seen", () => {
  expect(tourSentences(figures())).toEqual([
    "In a step of top-2 (400 ms) compute waited for the network, 48 % of the time; ScMoE hid 94 % of its communication behind compute, and waited 4 % of its 250 ms.",
    "On the same link ScMoE trained 1.60 × as fast, gradient reduction, clipping and AdamW included: 8,193 tokens/s against 5,120, and 65 s for its 260 steps against 104 s.",
    "After as many steps ScMoE's validation loss is 4.589, within 0.02 nats of top-2's 4.600; after as much time, the 65 s that ScMoE took for all its steps, top-2 was at step 171 with a training loss of 4.912, 0.362 nats higher than ScMoE's 4.550.",
  ]);
});

it.each<[string, TourFigures, number, string]>([
  [
    "little waiting",
    figures({ waitingShare: 0.03 }),
    0,
    "compute hardly waited for the network, 3 % of the time;",
  ],
  ["little hidden", figures({}, { hiddenShare: 0.39 }), 0, "ScMoE hid only 39 % of its communication"],
  ["waiting longer", figures({}, { waitingShare: 0.8 }), 0, "and waited longer, 80 % of its 250 ms."],
  [
    "nothing sent by one",
    figures({}, { hiddenShare: null }),
    0,
    "of the time; ScMoE sent nothing between ranks.",
  ],
  [
    "nothing sent at all",
    figures({ hiddenShare: null }, { hiddenShare: null }),
    0,
    "Neither top-2 nor ScMoE sent anything between ranks, so there was nothing to wait for.",
  ],
  ["as fast", figures({}, {}, { speedUp: 0.985 }), 1, "ScMoE was neither faster nor slower (0.98 ×),"],
  ["slower", figures({}, {}, { speedUp: 0.9 }), 1, "ScMoE was not faster but slower (0.90 ×),"],
  [
    "a lower loss",
    figures({}, { validationLoss: 4.4996 }),
    2,
    "is 4.500, 0.100 nats lower than top-2's 4.600;",
  ],
  [
    "a higher loss",
    figures({}, { validationLoss: 4.7 }),
    2,
    "is 4.700, 0.100 nats higher than top-2's 4.600;",
  ],
  [
    "the same at equal time",
    figures({ atEqualTime: { step: 250, trainLoss: 4.56 } }),
    2,
    "top-2 was at step 250 with a training loss of 4.560, within 0.02 nats of ScMoE's 4.550.",
  ],
  [
    "the other first to end",
    figures(
      { seconds: 60.4, atEqualTime: { step: 260, trainLoss: 4.61 } },
      { atEqualTime: { step: 240, trainLoss: 4.55 } },
      { equalTimeSeconds: 60.4 },
    ),
    2,
    "the 60 s that top-2 took for all its steps, ScMoE was at step 240 with a training loss of 4.550, 0.060 nats lower than top-2's 4.610.",
  ],
])("%s", (_name, given, which, wanted) => {
  const sentences = tourSentences(given);
  expect(sentences[which]).toContain(wanted);
  // One sentence each, whatever came out.
  for (const sentence of sentences) expect(sentence).toMatch(/^[A-Z](?:[^.]|\.\d)*\.$/);
});

it("takes its figures from the trainings alone", () => {
  const timing = { computeMs: 50, communicationMs: 50, exposedMs: 40, lateMs: 0, overlapShare: 0.2 };
  const ended = (name: string, stepMs: number, more: Partial<EndedTraining> = {}): EndedTraining => ({
    name,
    tokensPerSecond: 1e6 / stepMs,
    validationLoss: 6,
    timing: { stepMs, ...timing },
    course: Array.from({ length: 40 }, (_, i) => ({
      ...{ step: i + 1, seconds: ((i + 1) * stepMs) / 1e3, stepMs, tokens: 1e3, loss: 8 - i / 10 },
      validationLoss: null,
    })),
    ...more,
  });
  const slow = ended("top-2", 200);
  const silent = { stepMs: 100, ...timing, communicationMs: 0, exposedMs: 0, overlapShare: 1 };
  const fast = ended("ScMoE", 100, { timing: silent, validationLoss: 5.5 });
  const { models, speedUp, equalTimeSeconds } = tourFigures(slow, fast);
  expect(speedUp).toBeCloseTo(2);
  expect(equalTimeSeconds).toBeCloseTo(4);
  expect(models[0]).toMatchObject({ waitingShare: 0.2, hiddenShare: 0.2, validationLoss: 6, steps: 40 });
  expect(models[1]).toMatchObject({ waitingShare: 0, hiddenShare: null, validationLoss: 5.5, seconds: 4 });
  // Half as far; the mean of its last 20 steps: losses 8.0 to 6.1. The other's: 6.0 to 4.1.
  expect(models[0].atEqualTime).toEqual({ step: 20, trainLoss: expect.closeTo(7.05) });
  expect(models[1].atEqualTime).toEqual({ step: 40, trainLoss: expect.closeTo(5.05) });
  expect(tourFigures(fast, slow).models[1].atEqualTime.step).toBe(20);
});
