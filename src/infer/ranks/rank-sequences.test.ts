import { expect, it } from "vitest";
import { RankSequences, type Sampling } from "./rank-sequences.js";
import { GREEDY, type SamplingParameters } from "../sampling/sampling-parameters.js";
import type { RankPlan, SequenceStart } from "../step-plan.js";

/** Writes down what samplers are asked; a token is the row's only number. */
function noted(): { sampling: Sampling; calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    sampling: {
      createSampler: (_, prompt) => ({
        next: ([id]) => {
          calls.push(`${prompt.join("")}: draws ${id}`);
          return { id };
        },
        accept: (id) => void calls.push(`${prompt.join("")}: accepts ${id}`),
      }),
      tokenLogprob: ([logit], id, top, context) => ({ id, logprob: -logit, rank: context, top: [[top, 0]] }),
    },
  };
}

const start = (
  sequence: number,
  prompt: readonly number[],
  more: Partial<SamplingParameters> = {},
  written: readonly number[] = [],
): SequenceStart => ({ sequence, prompt, sampling: { ...GREEDY, ...more }, written });
const plan = (more: Partial<RankPlan>): RankPlan => ({
  ended: [],
  cache: [],
  starts: [],
  decode: [],
  ...more,
});
const row =
  (base: number) =>
  (index: number): Float32Array =>
    Float32Array.of(base + index);
const unwanted = (): never => {
  throw new Error("nobody needs these logits");
};

it("feeds a prompt in chunks, draws after its last row, and then feeds what was drawn", () => {
  const { sampling, calls } = noted();
  const sequences = new RankSequences(sampling);
  const first = plan({
    starts: [start(7, [1, 2, 3, 4, 5])],
    prefill: { sequence: 7, slot: 0, start: 0, end: 4 },
  });
  const decode = { ids: [], pasts: [], isDrawn: [] };
  expect(sequences.begin(first)).toEqual({
    prefill: { slot: 0, past: 0, ids: [1, 2, 3, 4], logitsFrom: 4 },
    decode,
  });
  expect(sequences.end(first, { prefill: unwanted, decode: unwanted })).toEqual({ sampled: [] });
  const second = plan({ prefill: { sequence: 7, slot: 0, start: 4, end: 5 } });
  expect(sequences.begin(second)).toEqual({
    prefill: { slot: 0, past: 4, ids: [5], logitsFrom: 0 },
    decode,
  });
  expect(sequences.end(second, { prefill: row(50), decode: unwanted }).sampled).toEqual([
    { sequence: 7, token: { id: 50 } },
  ]);
  for (const [past, id, next] of [
    [5, 50, 60],
    [6, 60, 61],
  ]) {
    const step = plan({ decode: [7] });
    expect(sequences.begin(step)).toEqual({ decode: { ids: [id], pasts: [past], isDrawn: [true] } });
    expect(sequences.end(step, { prefill: unwanted, decode: row(next) }).sampled).toEqual([
      { sequence: 7, token: { id: next } },
    ]);
  }
  expect(calls).toEqual(["12345: draws 50", "12345: draws 60", "12345: draws 61"]);
  expect(sequences.size).toBe(1);
  sequences.begin(plan({ ended: [7] }));
  expect(sequences.size).toBe(0);
});

it("feeds the old tokens of a preempted sequence again, drawing nothing until they are used up", () => {
  const { sampling, calls } = noted();
  const sequences = new RankSequences(sampling);
  const first = plan({
    starts: [start(1, [1, 2], {}, [8, 9])],
    prefill: { sequence: 1, slot: 0, start: 0, end: 2 },
  });
  expect(sequences.begin(first).prefill?.logitsFrom).toBe(2);
  expect(sequences.end(first, { prefill: unwanted, decode: unwanted }).sampled).toEqual([]);
  const step = plan({ decode: [1] });
  expect(sequences.begin(step).decode).toEqual({ ids: [8], pasts: [2], isDrawn: [false] });
  expect(sequences.end(step, { prefill: unwanted, decode: unwanted }).sampled).toEqual([]);
  expect(sequences.begin(step).decode).toEqual({ ids: [9], pasts: [3], isDrawn: [true] });
  expect(sequences.end(step, { prefill: unwanted, decode: row(10) }).sampled).toEqual([
    { sequence: 1, token: { id: 10 } },
  ]);
  expect(calls).toEqual(["12: accepts 8", "12: accepts 9", "12: draws 10"]);
});

it("decodes beside a prompt, each row from its own sequence, in the order of slots", () => {
  const { sampling } = noted();
  const sequences = new RankSequences(sampling);
  const run = (more: Partial<RankPlan>, prefill = row(0), decode = row(0)) => {
    const step = plan(more);
    return [sequences.begin(step), sequences.end(step, { prefill, decode })] as const;
  };
  // A chunk that begins after blocks of the store.
  run({ starts: [start(1, [1, 2, 3, 4])], prefill: { sequence: 1, slot: 0, start: 2, end: 4 } }, row(20));
  run(
    { starts: [start(2, [5])], decode: [1], prefill: { sequence: 2, slot: 1, start: 0, end: 1 } },
    row(30),
    row(22),
  );
  const [rows, result] = run({ decode: [2, 1] }, unwanted, row(40));
  expect(rows.decode).toEqual({ ids: [30, 22], pasts: [1, 5], isDrawn: [true, true] });
  expect(result.sampled.map(({ sequence, token }) => [sequence, token.id])).toEqual([
    [2, 40],
    [1, 41],
  ]);
});

it("says of each token of a prompt but the first how likely it was, and draws none where none is wanted", () => {
  const { sampling, calls } = noted();
  const sequences = new RankSequences(sampling);
  const wants = { promptLogprobs: 3, maxNewTokens: 0 };
  const first = plan({
    starts: [start(1, [1, 2, 3], wants)],
    prefill: { sequence: 1, slot: 0, start: 0, end: 2 },
  });
  expect(sequences.begin(first).prefill?.logitsFrom).toBe(0);
  const logits = { prefill: row(100), decode: unwanted };
  expect(sequences.end(first, logits)).toEqual({
    sampled: [],
    promptLogprobs: [
      { id: 2, logprob: -100, rank: 1, top: [[3, 0]] },
      { id: 3, logprob: -101, rank: 2, top: [[3, 0]] },
    ],
  });
  const last = plan({ prefill: { sequence: 1, slot: 0, start: 2, end: 3 } });
  sequences.begin(last);
  expect(sequences.end(last, logits)).toEqual({ sampled: [], promptLogprobs: [] });
  expect(calls).toEqual([]);
});

it.each<[string, Partial<RankPlan>, RegExp]>([
  ["an unknown sequence", { decode: [5] }, /sequence 5 is in the plan and not known/],
  ["an end of one", { ended: [5] }, /sequence 5 has ended and is not known/],
  ["a second start", { starts: [start(1, [1]), start(1, [1])] }, /sequence 1 starts, and is known already/],
  [
    "decoding before the prompt was read",
    { starts: [start(1, [1, 2])], decode: [1] },
    /decodes after 0 rows, with 2 tokens of prompt and 0 written/,
  ],
])("refuses %s", (_, more, message) => {
  expect(() => new RankSequences(noted().sampling).begin(plan(more))).toThrow(message);
});
