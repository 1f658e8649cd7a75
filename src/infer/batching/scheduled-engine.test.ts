import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it, vi } from "vitest";
import { CheckedRunner, VOCAB, aloneTokens } from "../../../test/checked-runner.js";
import { EnvironmentError, InputError } from "../../core/errors.js";
import type { InferenceEngine, SequenceListener, SubmittedSequence } from "../engine.js";
import { GREEDY, type SamplingParameters } from "../sampling/sampling-parameters.js";
import { type ScheduledEngineOptions, createScheduledEngine } from "./scheduled-engine.js";
import type { RunnerShape, StepPlan, StepResult } from "../step-plan.js";

const SHAPE: RunnerShape = { ranks: 2, slots: 4, capacity: 64, chunk: 4, budgetRows: 256, granule: 4 };

/** As ranks elsewhere: answers later. */
class LateRunner extends CheckedRunner {
  override run(plan: StepPlan): StepResult {
    return turn().then(() => super.run(plan)) as unknown as StepResult;
  }
}

function engineOn(
  runner: CheckedRunner = new CheckedRunner(SHAPE),
  onStep?: ScheduledEngineOptions["onStep"],
): InferenceEngine {
  return createScheduledEngine({ runner, vocabSize: VOCAB, onStep });
}

interface Owner extends SubmittedSequence {
  readonly heard: unknown[];
  /** When it has ended, in whatever way. */
  readonly over: Promise<void>;
}

/** Submits a prompt and writes down all that is heard; `act` stands in for the rest of what a listener does. */
function ask(
  engine: InferenceEngine,
  prompt: readonly number[],
  sampling: Partial<SamplingParameters> = {},
  act: Partial<SequenceListener> = {},
): Owner {
  const heard: unknown[] = [];
  let resolve: () => void;
  const over = new Promise<void>((r) => (resolve = r));
  const sequence = engine.submit(
    { prompt, sampling: { ...GREEDY, maxNewTokens: 5, ...sampling } },
    {
      promptLogprobs(tokens) {
        heard.push(tokens.map(({ id }) => id));
        act.promptLogprobs?.(tokens);
      },
      token(token) {
        heard.push(token.id);
        return act.token?.(token);
      },
      end(reason) {
        heard.push(reason);
        resolve();
        act.end?.(reason);
      },
      failed(error) {
        heard.push(error.message);
        resolve();
        act.failed?.(error);
      },
    },
  );
  return { heard, over, cancel: () => sequence.cancel() };
}
const alone = (prompt: readonly number[], count: number): number[] =>
  aloneTokens(prompt, { ...GREEDY, maxNewTokens: count }, 64);

describe.each([
  ["answers at once", CheckedRunner],
  ["answers later", LateRunner],
])("over a runner that %s", (_, Runner) => {
  it("each listener hears what its sequence gets alone, in order, and nothing before submit has returned", async () => {
    const engine = engineOn(new Runner(SHAPE));
    const prompts = Array.from({ length: 12 }, (_, i) => [1, 2, 3, 4, 5, i]);
    const owners = prompts.map((prompt) => ask(engine, prompt, { promptLogprobs: 0 }));
    for (const { heard } of owners) expect(heard).toEqual([]);
    await engine.drain();
    owners.forEach(({ heard }, index) =>
      expect(heard).toEqual([prompts[index].slice(1), ...alone(prompts[index], 5), "length"]),
    );
    expect(engine.figures()).toMatchObject({ running: 0, waiting: 0, newTokens: 60, promptTokens: 72 });
    await engine.close();
  });

  it("cancels whatever state it is in, once, and not from within the call", async () => {
    const engine = engineOn(new Runner(SHAPE));
    const queued = ask(engine, [1]);
    const [running, read] = [ask(engine, [2], { maxNewTokens: 60 }), ask(engine, Array(60).fill(3))];
    queued.cancel();
    queued.cancel();
    expect(queued.heard).toEqual([]);
    await queued.over;
    while (running.heard.length < 3) await turn();
    expect(engine.figures()).toMatchObject({ running: 2, waiting: 0 });
    running.cancel();
    read.cancel();
    await Promise.all([running.over, read.over]);
    await engine.drain();
    expect(queued.heard).toEqual(["cancelled"]);
    expect(running.heard).toEqual([...alone([2], 60).slice(0, running.heard.length - 1), "cancelled"]);
    expect(read.heard).toEqual(["cancelled"]);
    await engine.close();
  });

  it("lets the event loop turn between steps", async () => {
    const engine = engineOn(new Runner(SHAPE));
    const { heard } = ask(engine, [1], { maxNewTokens: 50 });
    const seen = new Set<number>();
    while (heard.at(-1) !== "length") {
      seen.add(heard.length);
      await turn();
    }
    expect(seen.size).toBeGreaterThan(40);
    await engine.close();
  });

  it("closes: what is left is cancelled, new ones are refused, the runner ends, once", async () => {
    const runner = new Runner(SHAPE);
    const close = vi.spyOn(runner, "close");
    const engine = engineOn(runner);
    const owner = ask(engine, [1], { maxNewTokens: 60 });
    while (owner.heard.length < 2) await turn();
    await Promise.all([engine.close(), engine.close()]);
    expect(owner.heard.at(-1)).toBe("cancelled");
    expect(close).toHaveBeenCalledTimes(1);
    expect(() => ask(engine, [1])).toThrow(EnvironmentError);
  });
});

it("ends the ranks when the step that is under way is over", async () => {
  const log: string[] = [];
  const runner = new CheckedRunner(SHAPE);
  const run = runner.run.bind(runner);
  const late = async (plan: StepPlan): Promise<StepResult> => {
    log.push("begin");
    for (let turns = 0; turns < 3; turns++) await turn();
    log.push("end");
    return run(plan);
  };
  vi.spyOn(runner, "run").mockImplementation(late as unknown as CheckedRunner["run"]);
  vi.spyOn(runner, "close").mockImplementation(() => void log.push("close"));
  const engine = engineOn(runner);
  ask(engine, [1]);
  while (log.length === 0) await turn();
  await engine.close();
  expect(log).toEqual(["begin", "end", "begin", "end", "close"]);
});

describe("a listener", () => {
  it('ends its sequence by "stop", also with the last token', async () => {
    const engine = engineOn();
    const stops = ask(engine, [1], {}, { token: () => "stop" });
    const last = ask(engine, [2], { maxNewTokens: 1 }, { token: () => "stop" });
    await engine.drain();
    expect(stops.heard).toEqual([...alone([1], 1), "stop"]);
    expect(last.heard).toEqual([...alone([2], 1), "stop"]);
    expect(engine.figures().newTokens).toBe(2);
  });

  it.each(["promptLogprobs", "token", "end", "failed"] as const)(
    "that throws in %s ends only its own sequence",
    async (where) => {
      const engine = engineOn();
      const fail = () => {
        throw new Error("broken");
      };
      const act = where === "failed" ? { token: fail, failed: fail } : { [where]: fail };
      const broken = ask(engine, [1, 2], { promptLogprobs: 0, maxNewTokens: where === "end" ? 1 : 5 }, act);
      const other = ask(engine, [3]);
      await engine.drain();
      expect(broken.heard.at(-1)).toBe(where === "end" ? "length" : "broken");
      expect(broken.heard.filter((heard) => typeof heard === "string")).toHaveLength(1);
      expect(other.heard).toEqual([...alone([3], 5), "length"]);
      expect(engine.figures().newTokens).toBe(1 + 5);
    },
  );

  it("may cancel itself, or a neighbour, while it is told of a token", async () => {
    const engine = engineOn(new CheckedRunner({ ...SHAPE, ranks: 1 }));
    const first = ask(engine, [1], {}, { token: () => void (first.heard.length === 2 && both()) });
    const second = ask(engine, [2]);
    const both = () => {
      first.cancel();
      second.cancel();
    };
    await engine.drain();
    expect(first.heard).toEqual([...alone([1], 2), "cancelled"]);
    // Its first token came of the same step, and it had left before it was told.
    expect(second.heard).toEqual(["cancelled"]);
  });

  it("may ask for more", async () => {
    const engine = engineOn();
    let next: Owner | undefined;
    const first = ask(engine, [1], {}, { end: () => void (next = ask(engine, [2])) });
    await first.over;
    await engine.drain();
    expect(next?.heard).toEqual([...alone([2], 5), "length"]);
  });
});

it("serves 200 clients at once, each what it gets alone, and lets none starve", async () => {
  const engine = engineOn(new LateRunner({ ...SHAPE, slots: 9, budgetRows: 400 }));
  const waits: number[] = [];
  const client = async (number: number): Promise<void> => {
    for (let round = 0; round < 4; round++) {
      // Every tenth prompt is long; a third of all begin alike.
      const length = number % 10 === 0 ? 40 : 1 + (number % 7);
      const prompt = Array.from({ length }, (_, i) => (number % 3 === 0 ? i : i + number + round) % VOCAB);
      const asked = engine.figures().steps;
      const first = { token: () => void (heard.length === 1 && waits.push(engine.figures().steps - asked)) };
      const { heard, over } = ask(engine, prompt, { maxNewTokens: 6 + (number % 5) }, first);
      await over;
      expect(heard).toEqual([...alone(prompt, 6 + (number % 5)), "length"]);
    }
  };
  await Promise.all(Array.from({ length: 200 }, (_, number) => client(number)));
  waits.sort((a, b) => a - b);
  expect(waits).toHaveLength(800);
  expect(waits[791]).toBeLessThanOrEqual(10 * waits[400]);
  await engine.close();
});

describe("ranks that are lost", () => {
  it("fail every sequence, and the engine", async () => {
    const runner = new CheckedRunner(SHAPE);
    const engine = engineOn(runner);
    const owners = [ask(engine, [1], { maxNewTokens: 40 }), ask(engine, Array(60).fill(2))];
    const late = ask(engine, [3], {}, { failed: () => void expect.fail("told, and thrown away") });
    owners.push(late);
    vi.spyOn(runner, "run").mockImplementation(() => {
      throw new Error("rank 1 is gone");
    });
    await Promise.all(owners.map(({ over }) => over));
    for (const { heard } of owners) expect(heard).toEqual(["rank 1 is gone"]);
    expect(() => ask(engine, [1])).toThrow("The ranks of this engine are lost (rank 1 is gone)");
    owners[0].cancel();
    await engine.drain();
    await engine.close();
    expect(runner.closed).toBe(true);
    expect(owners[0].heard).toHaveLength(1);
  });

  it("are noticed by what they leave out", async () => {
    const runner = new CheckedRunner(SHAPE);
    const engine = engineOn(runner);
    const run = runner.run.bind(runner);
    vi.spyOn(runner, "run").mockImplementation((plan) => ({
      ...run(plan),
      ranks: [{ sampled: [] }, { sampled: [] }],
    }));
    const owner = ask(engine, [1]);
    await owner.over;
    expect(owner.heard).toEqual(["Invariant broken: no token of sequence 0 came back from its rank"]);
    await engine.close();
  });
});

describe("submit()", () => {
  it.each([
    [[1, VOCAB], {}, `The prompt has token ${VOCAB}; wanted 0 to ${VOCAB - 1}`],
    [[-1], {}, "The prompt has token -1"],
    [[0.5], {}, "The prompt has token 0.5"],
    [[], {}, "The prompt has no tokens"],
    [Array<number>(64).fill(0), {}, "The prompt has 64 tokens; wanted at most 63"],
    [[1], { maxNewTokens: -1 }, "maxNewTokens is -1"],
    [[1], { maxNewTokens: NaN }, "maxNewTokens is NaN"],
  ])("refuses %j %j", (prompt, sampling, message) => {
    const engine = engineOn();
    expect(() => ask(engine, prompt, sampling)).toThrow(InputError);
    expect(() => ask(engine, prompt, sampling)).toThrow(message);
    expect(engine.figures()).toMatchObject({ running: 0, waiting: 0 });
  });

  it("refuses while what is there is drained", async () => {
    const engine = engineOn();
    const owner = ask(engine, [1]);
    const drained = engine.drain();
    expect(() => ask(engine, [2])).toThrow(EnvironmentError);
    await drained;
    expect(owner.heard.at(-1)).toBe("length");
  });
});

it("says what its context and vocabulary are, and reports each step after its tokens", async () => {
  const log: unknown[] = [];
  const engine = engineOn(new CheckedRunner({ ...SHAPE, budgetRows: 42 }), ({ ranks }, result) =>
    log.push([ranks[0].decode.length, result.ranks[0].sampled.length]),
  );
  expect([engine.contextLength, engine.vocabSize]).toEqual([40, VOCAB]);
  ask(engine, [1], { maxNewTokens: 2 }, { token: () => void log.push("token") });
  await engine.drain();
  expect(log).toEqual(["token", [0, 1], "token", [1, 1], [0, 0]]);
  expect(engine.figures().steps).toBe(3);
});
