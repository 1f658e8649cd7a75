import { describe, expect, it } from "vitest";
import { SHAPE, at, kinds, prompt, stepper } from "../../../test/batching-steps.js";
import { runTrace } from "../../../test/batching-trace.js";
import { aloneTokens } from "../../../test/checked-runner.js";
import { GREEDY, type SamplingParameters } from "../sampling/sampling-parameters.js";

describe("blocks", () => {
  it("are stored once computed, and loaded on admission; the last token is computed at any rate", () => {
    const { submit, step, scheduler } = stepper();
    submit(prompt(8), { maxNewTokens: 1 });
    step();
    submit(prompt(8));
    expect(step().rank.cache).toEqual([{ kind: "store", slot: 0, start: 0, block: 0 }]);
    const { rank } = step();
    expect(rank.cache).toEqual([
      { kind: "store", slot: 0, start: 4, block: 1 },
      { kind: "free", slot: 0 },
      { kind: "load", slot: 0, start: 0, block: 0 },
    ]);
    expect(rank.prefill).toMatchObject({ sequence: 1, start: 4, end: 8 });
    expect(scheduler.figures()).toMatchObject({ prefixQueriedTokens: 16, prefixHitTokens: 4 });
  });

  it("are not looked for in a prompt that differs within them", () => {
    const { submit, step } = stepper();
    submit(prompt(9));
    for (let count = 0; count < 3; count++) step();
    submit([...prompt(3), 49, ...prompt(6)]);
    expect(kinds(step().rank)).toEqual([]);
  });

  it("make room for sequences, those used longest ago first", () => {
    const { submit, step } = stepper({ budgetRows: 16 });
    submit(prompt(5), { maxNewTokens: 1 });
    for (let count = 0; count < 3; count++) step();
    submit(prompt(5, 20), { maxNewTokens: 1 });
    for (let count = 0; count < 3; count++) step();
    submit(prompt(9), { maxNewTokens: 1 });
    // 12 rows of its own, and 4 of the block that it begins with.
    expect(step().rank.cache).toEqual([
      { kind: "drop", block: 1 },
      { kind: "load", slot: 0, start: 0, block: 0 },
    ]);
  });

  it("count as used where they are found only to be told of", () => {
    const { submit, step } = stepper({ budgetRows: 16 });
    const once = (tokens: readonly number[], sampling: Partial<SamplingParameters> = {}): void => {
      submit(tokens, { maxNewTokens: 1, ...sampling });
      for (let count = 0; count < 3; count++) step();
    };
    once(prompt(5));
    once(prompt(5, 20));
    once(prompt(5), { promptLogprobs: 0 });
    submit(prompt(9, 40));
    expect(step().rank.cache).toEqual([{ kind: "drop", block: 1 }]);
  });

  it("are not stored behind one that has been dropped", () => {
    const { submit, step, scheduler } = stepper({ budgetRows: 55, granule: 1 });
    const other = submit(prompt(20, 25), { maxNewTokens: 30 });
    for (let count = 0; count < 5; count++) step();
    submit(prompt(24), { maxNewTokens: 1 });
    for (let count = 0; count < 3; count++) step();
    expect(kinds(step().rank)).toEqual(["drop"]);
    scheduler.end(other);
    const actions: string[] = [];
    while (scheduler.figures().running > 0) actions.push(...kinds(step().rank));
    expect(actions).toEqual(["free", "move", "free", "free"]);
    submit(prompt(24));
    expect(kinds(step().rank)).toEqual(["load"]);
  });
});

describe("preemption", () => {
  it("takes the youngest, which begins again with what it has written, and hears nothing twice", () => {
    const { submit, step, scheduler } = stepper({ budgetRows: 16, granule: 1 });
    const first = submit(prompt(4), { maxNewTokens: 12 });
    const second = submit(prompt(4, 20), { maxNewTokens: 8 });
    const heard: Record<number, number[]> = { [first]: [], [second]: [] };
    const starts: { sequence: number; written: readonly number[] }[] = [];
    while (scheduler.figures().running + scheduler.figures().waiting > 0) {
      const { rank, events } = step();
      for (const { sequence, written } of rank.starts) starts.push({ sequence, written });
      for (const { sequence, token } of events) if (token) heard[sequence].push(token.id);
    }
    expect(scheduler.figures().preemptions).toBe(1);
    expect(starts.map(({ sequence }) => sequence)).toEqual([first, second, second]);
    expect(starts[2].written.length).toBeGreaterThan(1);
    expect(heard[first]).toEqual(aloneTokens(prompt(4), { ...GREEDY, maxNewTokens: 12 }, 64));
    expect(heard[second]).toEqual(aloneTokens(prompt(4, 20), { ...GREEDY, maxNewTokens: 8 }, 64));
    expect(heard[second].slice(0, starts[2].written.length)).toEqual(starts[2].written);
  });

  it("does not ask for the prompt's log probabilities again that were told", () => {
    const { submit, step, scheduler } = stepper({ budgetRows: 16, granule: 1 });
    submit(prompt(4), { maxNewTokens: 12 });
    submit(prompt(4, 20), { promptLogprobs: 0 });
    const told: unknown[] = [];
    const asked: unknown[] = [];
    while (scheduler.figures().running + scheduler.figures().waiting > 0) {
      const { rank, events } = step();
      asked.push(...rank.starts.map(({ sampling }) => sampling.promptLogprobs));
      told.push(...events.flatMap(({ promptLogprobs }) => promptLogprobs?.length ?? []));
    }
    expect(scheduler.figures().preemptions).toBe(1);
    expect(asked).toEqual([undefined, 0, undefined]);
    expect(told).toEqual([3]);
  });

  it("is not done where dropping blocks is enough", () => {
    const { figures, plans } = runTrace({ ...SHAPE, budgetRows: 32, granule: 1 }, [
      at(0, prompt(9), { maxNewTokens: 2 }),
      at(6, prompt(8, 20), { maxNewTokens: 24 }),
    ]);
    expect(plans.flatMap(({ ranks }) => kinds(ranks[0])).filter((kind) => kind === "drop")).toHaveLength(4);
    expect(figures.preemptions).toBe(0);
  });

  it("takes the youngest wherever it stands", () => {
    const { submit, step, scheduler } = stepper({ budgetRows: 30, granule: 1 });
    for (const [index, maxNewTokens] of [3, 20, 20].entries())
      submit(prompt(4, 10 * index), { maxNewTokens });
    const ended: number[] = [];
    while (scheduler.figures().preemptions === 0) {
      const { rank } = step();
      ended.push(...rank.ended);
      if (ended.length === 1) expect(rank.decode).toEqual([2, 1]);
    }
    expect(ended).toEqual([0, 2]);
  });

  it("puts it before those that have not begun", () => {
    const { submit, step, scheduler } = stepper({ budgetRows: 24, granule: 1 });
    for (let first = 0; first < 3; first++) submit(prompt(4, 10 * first), { maxNewTokens: 12 });
    submit(prompt(20, 3), { maxNewTokens: 1 });
    const starts: number[] = [];
    while (scheduler.figures().running + scheduler.figures().waiting > 0)
      starts.push(...step().rank.starts.map(({ sequence }) => sequence));
    expect(starts).toEqual([0, 1, 2, 1, 2, 2, 3]);
    expect(scheduler.figures()).toMatchObject({ promptTokens: 32, prefixQueriedTokens: 32 });
  });

  it("is not done again before the sequence has written more: it waits for room to catch up in", () => {
    // When the second ends there is room for the third, but not for what the first writes meanwhile.
    const { heard, figures } = runTrace({ ...SHAPE, budgetRows: 57, granule: 1 }, [
      at(0, prompt(20), { maxNewTokens: 30 }),
      at(0, prompt(1, 30), { maxNewTokens: 12 }),
      at(0, prompt(4, 40), { maxNewTokens: 30 }),
    ]);
    expect(heard.map(({ tokens }) => tokens.length)).toEqual([30, 12, 30]);
    expect(figures.preemptions).toBe(1);
  });

  it("holds no more room than others can ever use", () => {
    const { submit, step } = stepper({ budgetRows: 7 + 21, granule: 1 });
    submit(prompt(4, 30), { maxNewTokens: 4 });
    submit(prompt(20), { maxNewTokens: 8 });
    step();
    expect(step().rank.starts).toMatchObject([{ sequence: 1 }]);
  });
});
