/** Whatever stands beside a request, it gets the tokens that it gets alone. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GREEDY } from "../src/infer/sampling/sampling-parameters.js";
import type { RunnerShape } from "../src/infer/step-plan.js";
import { type TraceRequest, requests, runTrace, traces, wrongIn } from "./batching-trace.js";

describe("random traces", () => {
  it.each([1, 4])("on up to %d ranks: each request gets what it gets alone", (ranks) => {
    fc.assert(
      fc.property(traces({ ranks, requests: 24, steps: 30 }), (trace) => {
        const { wrong, figures } = wrongIn(trace);
        expect(wrong).toEqual([]);
        expect(figures).toMatchObject({ running: 0, waiting: 0, cacheUse: 0 });
      }),
      { seed: 13, numRuns: 250 },
    );
  });
});

describe("a trace of 1,000 requests", () => {
  const shape: RunnerShape = { ranks: 2, slots: 6, capacity: 96, chunk: 8, budgetRows: 144, granule: 4 };

  it("with shared prefixes, long prompts, cancellations and preemptions, gives each what it gets alone", () => {
    const trace = fc.sample(fc.noBias(requests(96, 600)), { seed: 15, numRuns: 1000 });
    const { wrong, heard, figures } = wrongIn({ shape, requests: trace });
    expect(wrong).toEqual([]);
    const ends = heard.map(({ end }) => end);
    for (const end of ["cancelled", "length", "stop"] as const)
      expect(ends.filter((e) => e === end).length).toBeGreaterThan(100);
    expect(figures.preemptions).toBeGreaterThan(50);
    expect(figures.prefixHitTokens).toBeGreaterThan(1000);
    expect(Math.max(...trace.map(({ request }) => request.prompt.length))).toBeGreaterThan(90);
  });
});

describe("fairness", () => {
  const SHAPE: RunnerShape = { ranks: 1, slots: 4, capacity: 64, chunk: 4, budgetRows: 256, granule: 4 };
  const prompt = (length: number, first = 0): number[] => Array.from({ length }, (_, i) => (first + i) % 50);
  const at = (step: number, tokens: readonly number[], maxNewTokens: number): TraceRequest => ({
    at: step,
    request: { prompt: tokens, sampling: { ...GREEDY, maxNewTokens } },
  });

  it("a long prompt among many short ones begins in its turn, and neither kind waits for all of the other", () => {
    const short = (step: number): TraceRequest => at(step, prompt(3, step % 40), 4);
    const requests = [
      ...Array.from({ length: 20 }, () => short(0)),
      at(0, prompt(48), 4),
      ...Array.from({ length: 200 }, (_, step) => short(step)),
    ];
    const { heard } = runTrace(SHAPE, requests);
    const waits = heard.map(({ wait }) => wait!);
    // 20 before it, one per step, and its own 12 chunks.
    expect(waits[20]).toBe(20 + 12);
    // After that, one begins per step as one comes per step: the queue does not grow.
    expect(Math.max(...waits.slice(21))).toBeLessThanOrEqual(20 + 12 + 3);
  });

  it("a running sequence writes a token in every step, however long the prompts are that come", () => {
    const requests = [at(0, prompt(1), 60)];
    for (let step = 1; step < 6; step++) requests.push(at(step, prompt(40, step), 1));
    const { plans } = runTrace(SHAPE, requests);
    for (const { ranks } of plans.slice(1, 60)) expect(ranks[0].decode[0]).toBe(0);
  });
});
