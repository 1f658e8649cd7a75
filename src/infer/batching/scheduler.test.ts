import { describe, expect, it } from "vitest";
import { SHAPE, at, kinds, prompt, stepper } from "../../../test/batching-steps.js";
import { runTrace } from "../../../test/batching-trace.js";
import { aloneTokens } from "../../../test/checked-runner.js";
import { InputError } from "../../core/errors.js";
import { GREEDY } from "../sampling/sampling-parameters.js";
import { Scheduler } from "./scheduler.js";

describe("prefill", () => {
  it("reads a prompt in chunks that begin at multiples, while others decode a token in every step", () => {
    const { submit, step } = stepper();
    submit(prompt(3), { maxNewTokens: 20 });
    expect(step().rank.prefill).toEqual({ sequence: 0, slot: 0, start: 0, end: 3 });
    submit(prompt(10, 20));
    submit(prompt(5, 30));
    for (const [start, end] of [
      [0, 4],
      [4, 8],
      [8, 10],
    ]) {
      const { rank, events } = step();
      expect(rank.prefill).toEqual({ sequence: 1, slot: 1, start, end });
      expect(rank.decode).toEqual([0]);
      expect(events.map(({ sequence }) => sequence)).toEqual(end === 10 ? [0, 1] : [0]);
    }
    const { rank } = step();
    expect(rank.prefill).toEqual({ sequence: 2, slot: 2, start: 0, end: 4 });
    expect(rank.decode).toEqual([0, 1]);
  });

  it("tells of a prompt once, whole, before the first token, and computes all of it for that", () => {
    const { submit, step, scheduler } = stepper();
    submit(prompt(9), { maxNewTokens: 1 });
    for (let count = 0; count < 3; count++) step();
    submit(prompt(9), { promptLogprobs: 0, maxNewTokens: 2 });
    expect(kinds(step().rank)).not.toContain("load");
    expect(step().events).toEqual([]);
    const [{ promptLogprobs, token }] = step().events;
    expect(promptLogprobs!.map(({ id }) => id)).toEqual(prompt(9).slice(1));
    expect(token).toBeDefined();
    expect(step().events[0].promptLogprobs).toBe(undefined);
    expect(scheduler.figures()).toMatchObject({ promptTokens: 18, prefixQueriedTokens: 9 });
  });

  it("ends a sequence that wants no token with its prompt", () => {
    const { submit, step, scheduler, runner } = stepper();
    submit(prompt(4), { maxNewTokens: 0, promptLogprobs: 0 });
    const { events } = step();
    expect(events).toMatchObject([{ sequence: 0, token: undefined, end: "length" }]);
    expect(events[0].promptLogprobs).toHaveLength(3);
    step();
    expect(scheduler.plan()).toBe(undefined);
    expect(runner.isEmpty).toBe(true);
  });
});

describe("slots", () => {
  it("stay without gaps: the last running one fills a hole, and the one that is read follows", () => {
    const { submit, step, scheduler } = stepper();
    for (const length of [1, 2, 3]) submit(prompt(length, 10 * length));
    for (let count = 0; count < 3; count++) step();
    submit(prompt(8));
    step();
    scheduler.end(0);
    const { rank } = step();
    expect(rank.ended).toEqual([0]);
    expect(rank.cache.filter(({ kind }) => kind !== "store")).toEqual([
      { kind: "free", slot: 0 },
      { kind: "move", from: 2, to: 0, rows: 4 },
      { kind: "free", slot: 2 },
      { kind: "move", from: 3, to: 2, rows: 4 },
      { kind: "free", slot: 3 },
    ]);
    expect(rank.decode).toEqual([2, 1]);
    expect(rank.prefill?.slot).toBe(2);
  });

  it("are given back with one step that does nothing else, then there is none", () => {
    const { submit, step, scheduler } = stepper();
    submit(prompt(2), { maxNewTokens: 1 });
    step();
    expect(step().rank).toEqual({
      ended: [0],
      cache: [{ kind: "free", slot: 0 }],
      starts: [],
      prefill: undefined,
      decode: [],
    });
    expect(scheduler.plan()).toBe(undefined);
  });

  it("are no more than there are", () => {
    const { submit, step } = stepper({ slots: 2 });
    for (let count = 0; count < 4; count++) submit(prompt(1, count), { maxNewTokens: 3 });
    expect([step(), step(), step()].map(({ rank }) => rank.starts.map(({ sequence }) => sequence))).toEqual([
      [0],
      [1],
      [],
    ]);
    expect(step().rank.starts).toMatchObject([{ sequence: 2 }]);
  });
});

describe("ranks", () => {
  it("share requests out, and stand idle with an empty plan", () => {
    const { submit, step } = stepper({ ranks: 3 });
    submit(prompt(6));
    submit(prompt(6, 20));
    const { plan } = step();
    expect(plan.ranks.map(({ prefill }) => prefill?.sequence)).toEqual([0, 1, undefined]);
    expect(plan.ranks[2]).toEqual({ ended: [], cache: [], starts: [], prefill: undefined, decode: [] });
  });

  it("get the prompts whose beginning they hold", () => {
    const { submit, step } = stepper({ ranks: 2 });
    submit(prompt(4, 30), { maxNewTokens: 3 });
    submit(prompt(17), { maxNewTokens: 1 });
    for (let count = 0; count < 6; count++) step();
    submit(prompt(20));
    expect(step().plan.ranks.map(({ prefill }) => prefill?.start)).toEqual([undefined, 16]);
  });
});

describe("ends", () => {
  it.each([
    ["as many tokens as were wanted", { maxNewTokens: 3 }, 3, "length"],
    ["a full context", { maxNewTokens: 100 }, 60, "length"],
    ["a stop token, which counts", { stopTokens: [aloneTokens(prompt(4), GREEDY, 64)[1]] }, 2, "stop"],
  ] as const)("%s", (_, sampling, count, end) => {
    const { heard } = runTrace(SHAPE, [at(0, prompt(4), sampling)]);
    expect([heard[0].tokens.length, heard[0].end]).toEqual([count, end]);
  });

  it("whenever its owner likes: waiting, read, running; once", () => {
    const { submit, step, scheduler, runner } = stepper({ slots: 2 });
    for (const length of [3, 12, 12]) submit(prompt(length, length));
    step();
    step();
    expect([2, 1, 0].map((id) => scheduler.end(id))).toEqual([true, true, true]);
    expect([2, 1, 0].map((id) => scheduler.end(id))).toEqual([false, false, false]);
    expect(step().rank).toMatchObject({ ended: [0, 1], prefill: undefined, decode: [] });
    expect(scheduler.plan()).toBe(undefined);
    expect(runner.isEmpty).toBe(true);
  });

  it("while a step is under way: what comes of it is not told, and its block is kept", () => {
    const { submit, step, scheduler, runner } = stepper();
    submit(prompt(4));
    const plan = scheduler.plan()!;
    scheduler.end(0);
    expect(scheduler.settle(runner.run(plan))).toEqual([]);
    expect(kinds(step().rank)).toEqual(["store", "free"]);
  });
});

describe("submit()", () => {
  it.each([
    ["The prompt has no tokens", SHAPE, 0, 1],
    ["The prompt has 64 tokens; wanted at most 63, as the context holds 64", SHAPE, 64, 1],
    ["The prompt has 65 tokens; wanted at most 64", SHAPE, 65, 0],
    ["The prompt has 12 tokens; wanted at most 11", { ...SHAPE, budgetRows: 14 }, 12, 1],
  ] as const)("refuses: %s", (message, shape, length, maxNewTokens) => {
    const { submit } = stepper(shape);
    expect(() => submit(prompt(length), { maxNewTokens })).toThrow(InputError);
    expect(() => submit(prompt(length), { maxNewTokens })).toThrow(message);
  });

  it("takes a prompt as long as the context where only its log probabilities are wanted", () => {
    const { heard } = runTrace(SHAPE, [at(0, prompt(64), { maxNewTokens: 0, promptLogprobs: 0 })]);
    expect(heard[0].promptLogprobs).toHaveLength(63);
  });

  it("needs a budget for one sequence", () => {
    expect(() => new Scheduler({ ...SHAPE, budgetRows: 3 })).toThrow("budget of 3 rows");
  });
});
