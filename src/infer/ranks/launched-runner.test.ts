/** Plans in, results out: on this thread, and on ranks that are threads. */
import { describe, expect, it } from "vitest";
import { FAKE_SHAPE, type Trouble, builtFakeJob, fakeModel, nextToken } from "../../../test/fake-model.js";
import { singleCommunicator } from "../../comm/single.js";
import { type LaunchedRunner, type RunnerLaunch, launchRunner } from "./launched-runner.js";
import { localRunner } from "./local-runner.js";
import { GREEDY } from "../sampling/sampling-parameters.js";
import type { RankPlan, StepPlan, StepRunner } from "../step-plan.js";

const job = builtFakeJob();

const NOTHING: RankPlan = { ended: [], cache: [], starts: [], decode: [] };
/** The prompt of rank r's only sequence. */
const promptOf = (rank: number): number[] => Array.from({ length: 6 + rank }, (_, i) => (i * 7 + rank) % 40);
const planOf = (ranks: number, of: (rank: number) => Partial<RankPlan>): StepPlan => ({
  ranks: Array.from({ length: ranks }, (_, rank) => ({ ...NOTHING, ...of(rank) })),
});

/** Reads a prompt on every rank and decodes; afterwards the sequence moves to another slot, and goes on there. */
function plansFor(ranks: number): StepPlan[] {
  const chunk = (rank: number, start: number): RankPlan["prefill"] => ({
    sequence: rank,
    slot: 0,
    start,
    end: Math.min(start + 4, promptOf(rank).length),
  });
  const sampling = { ...GREEDY, promptLogprobs: 2 };
  return [
    planOf(ranks, (rank) => ({
      starts: [{ sequence: rank, prompt: promptOf(rank), sampling, written: [] }],
      prefill: chunk(rank, 0),
    })),
    planOf(ranks, (rank) => ({ prefill: chunk(rank, 4) })),
    // From here on only rank 0 has all of its prompt, the others have nothing to do in some steps.
    planOf(ranks, (rank) => (promptOf(rank).length > 8 ? { prefill: chunk(rank, 8) } : { decode: [rank] })),
    planOf(ranks, (rank) => ({
      decode: [rank],
      cache: [
        { kind: "move", from: 0, to: 3, rows: 10 },
        { kind: "free", slot: 0 },
        { kind: "move", from: 3, to: 0, rows: 10 },
        { kind: "free", slot: 3 },
      ],
    })),
  ];
}

const START = planOf(2, (rank) => ({
  starts: [{ sequence: rank, prompt: [1], sampling: GREEDY, written: [] }],
  prefill: { sequence: rank, slot: 0, start: 0, end: 1 },
}));

async function openRunner(how: RunnerLaunch): Promise<LaunchedRunner> {
  return (await launchRunner(job, {}, how)).runner as LaunchedRunner;
}

/** The tokens that each rank's sequence has written. */
async function written(runner: StepRunner): Promise<number[][]> {
  const tokens = Array.from({ length: runner.shape.ranks }, (): number[] => []);
  for (const plan of plansFor(runner.shape.ranks)) {
    const { ranks } = await runner.run(plan);
    ranks.forEach(({ sampled }, rank) => tokens[rank].push(...sampled.map(({ token }) => token.id)));
  }
  return tokens;
}

/** What a sequence writes alone. */
function wanted(rank: number, count: number): number[] {
  const tokens = promptOf(rank);
  for (let i = 0; i < count; i++) tokens.push(nextToken(tokens));
  return tokens.slice(promptOf(rank).length);
}

it("carries out plans on this thread", async () => {
  const runner = localRunner(fakeModel(singleCommunicator()));
  expect(runner.shape).toEqual({ ...FAKE_SHAPE, ranks: 1 });
  expect(await written(runner)).toEqual([wanted(0, 3)]);
  runner.close();
});

describe("on ranks that are threads", () => {
  it.each([1, 2, 4])("%i of them write what each sequence writes alone", async (ranks) => {
    const lines: string[] = [];
    const launched = await launchRunner(job, {}, { ranks, onLine: ({ line }) => lines.push(line) });
    const runner = launched.runner as LaunchedRunner;
    expect(runner.shape).toEqual({ ...FAKE_SHAPE, ranks });
    expect(await written(runner)).toEqual(
      Array.from({ length: ranks }, (_, rank) => wanted(rank, promptOf(rank).length > 8 ? 2 : 3)),
    );
    expect(await runner.ask("how many?")).toEqual({ question: "how many?", ranks, rows: ranks });
    await runner.close();
    await launched.ended;
    expect(lines).toEqual(["opening"]);
    await expect(runner.run(planOf(ranks, () => ({})))).rejects.toThrow("The ranks have been closed");
  });

  it("answers in the order in which it is asked, with all that a result may hold", async () => {
    const runner = await openRunner({ ranks: 2 });
    const answers = Promise.all([
      ...plansFor(2).map((plan) => runner.run(plan)),
      runner.ask(undefined),
      runner.close(),
    ]);
    const [first, second] = (await answers) as Awaited<ReturnType<LaunchedRunner["run"]>>[];
    // Logits that a model has ruled out have an infinite log probability.
    expect(first.ranks[1].promptLogprobs?.[0]).toEqual({
      id: promptOf(1)[1],
      logprob: -nextToken([promptOf(1)[0]]),
      rank: 2,
      top: [[0, -Infinity]],
    });
    expect([first.times.prefillMs, second.times.prefillMs]).toEqual([8, 2 + 3]);
  });

  it.each<[Trouble, RegExp]>([
    ["throws", /^rank 1: broken in the middle/],
    ["exits", /^rank 1: its thread ended unexpectedly \(exit code 3\).*last completed step 1/],
  ])("a rank that %s is named in every step that is asked for", async (trouble, message) => {
    const launched = await launchRunner(job, { trouble }, { ranks: 2 });
    const runner = launched.runner as LaunchedRunner;
    await runner.run(START);
    const decode = planOf(2, (rank) => ({ decode: [rank] }));
    const asked = [runner.run(decode), runner.run(decode), launched.ended].map((promise) =>
      expect(promise).rejects.toThrow(message),
    );
    await Promise.all(asked);
    await expect(runner.run(decode)).rejects.toThrow(message);
    await runner.close();
  });

  it("a rank that is lost while nobody asks for anything wakes the others", async () => {
    const launched = await launchRunner(job, { trouble: "exits between steps" }, { ranks: 2 });
    await launched.runner?.run(START);
    const lost = /^rank 1: its thread ended unexpectedly \(exit code 3\); last completed step 1/;
    await expect(launched.ended).rejects.toThrow(lost);
    await expect(launched.runner?.run(START)).rejects.toThrow(lost);
  });

  it("a model that does not open is an error of the launch", async () => {
    const launched = launchRunner(job, { trouble: "throws while opening" }, { ranks: 2 });
    await expect(launched).rejects.toThrow(/^rank 1: no such model/);
  });

  it("ranks wait for a step longer than the deadline of an exchange", async () => {
    const runner = await openRunner({ ranks: 2, deadlineMs: 1_000 });
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect((await runner.run(planOf(2, () => ({})))).ranks).toEqual([{ sampled: [] }, { sampled: [] }]);
    await runner.close();
  });
});
