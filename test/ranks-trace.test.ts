/** Batching on real caches of real ranks: what a sequence writes depends on the rows that stand in its slot, and is what it writes alone. */
import { expect, it } from "vitest";
import { singleCommunicator } from "../src/comm/single.js";
import { philox } from "../src/core/rng.js";
import { launchRunner } from "../src/infer/ranks/launched-runner.js";
import { localRunner } from "../src/infer/ranks/local-runner.js";
import { GREEDY } from "../src/infer/sampling/sampling-parameters.js";
import { Scheduler } from "../src/infer/batching/scheduler.js";
import type { StepRunner } from "../src/infer/step-plan.js";
import { VOCABULARY, builtFakeJob, fakeModel, nextToken } from "./fake-model.js";

const REQUESTS = 200;

interface Owner {
  readonly prompt: readonly number[];
  readonly maxNewTokens: number;
  readonly tokens: number[];
  end?: string;
}

/** Sequences that come in families of like prompts, some of which leave early. @returns what each heard */
async function runTrace(runner: StepRunner): Promise<{ owners: Owner[]; scheduler: Scheduler }> {
  const random = philox(3, "trace");
  let drawn = 0;
  const below = (n: number): number => Math.floor(random.uniform(drawn++) * n);
  const scheduler = new Scheduler(runner.shape);
  const owners = new Map<number, Owner>();
  const submit = (): void => {
    const family = below(3);
    const common = Array.from({ length: below(40) }, (_, i) => (i * family) % 7);
    const prompt = [...common, ...Array.from({ length: 1 + below(8) }, () => below(VOCABULARY))];
    const maxNewTokens = below(16);
    const id = scheduler.submit({ prompt, sampling: { ...GREEDY, maxNewTokens } });
    owners.set(id, { prompt, maxNewTokens, tokens: [] });
  };
  for (;;) {
    for (let n = below(3); n > 0 && owners.size < REQUESTS; n--) submit();
    const [leaver, owner] = [...owners][below(owners.size + 1)] ?? [];
    if (owner !== undefined && below(10) === 0 && scheduler.end(leaver)) owner.end = "cancelled";
    const plan = scheduler.plan();
    if (plan === undefined && owners.size === REQUESTS) return { owners: [...owners.values()], scheduler };
    if (plan === undefined) continue;
    for (const { sequence, token, end } of scheduler.settle(await runner.run(plan))) {
      const heard = owners.get(sequence) as Owner;
      if (token !== undefined) heard.tokens.push(token.id);
      heard.end ??= end;
    }
  }
}

function alone({ prompt, maxNewTokens }: Owner, contextLength: number): number[] {
  const tokens = [...prompt];
  while (tokens.length < Math.min(prompt.length + maxNewTokens, contextLength))
    tokens.push(nextToken(tokens));
  return tokens.slice(prompt.length);
}

async function expectTokensOfAlone(runner: StepRunner): Promise<void> {
  const { owners, scheduler } = await runTrace(runner);
  const wrong = owners.filter((owner) => {
    const wanted = alone(owner, scheduler.contextLength);
    const length = owner.end === "cancelled" ? owner.tokens.length : wanted.length;
    return owner.end === undefined || owner.tokens.join() !== wanted.slice(0, length).join();
  });
  expect(wrong).toEqual([]);
  const { preemptions, prefixHitTokens } = scheduler.figures();
  expect([preemptions > 0, prefixHitTokens > 100]).toEqual([true, true]);
}

it("on this thread", async () => {
  await expectTokensOfAlone(localRunner(fakeModel(singleCommunicator())));
});

it("on two ranks", async () => {
  const { runner } = await launchRunner(builtFakeJob(), {}, { ranks: 2 });
  await expectTokensOfAlone(runner as StepRunner);
  await runner?.close();
});
