/** Requests that come and go at given steps, carried out on checked caches, and compared with what each gets alone. */
import fc from "fast-check";
import type { EndReason, EngineFigures, SequenceRequest } from "../src/infer/engine.js";
import { GREEDY, type TokenLogprob } from "../src/infer/sampling/sampling-parameters.js";
import { Scheduler } from "../src/infer/batching/scheduler.js";
import type { RunnerShape, StepPlan } from "../src/infer/step-plan.js";
import { CheckedRunner, VOCAB, aloneTokens, logprobOf } from "./checked-runner.js";

export interface TraceRequest {
  /** The step before which it comes. */
  readonly at: number;
  readonly request: SequenceRequest;
  /** Steps after it came when its owner leaves: before the step where even, while it is under way where odd. */
  readonly cancelAfter?: number | undefined;
  /** Tokens after which its owner has read enough. */
  readonly enough?: number | undefined;
}

/** What an owner has heard. */
interface Heard {
  readonly tokens: number[];
  promptLogprobs: readonly TokenLogprob[] | undefined;
  end: EndReason | undefined;
  /** Steps from coming to the first token or the end. */
  wait: number | undefined;
}

interface Outcome {
  readonly heard: readonly Heard[];
  readonly figures: EngineFigures;
  readonly plans: readonly StepPlan[];
}

/**
 * Runs a trace to its end.
 * @throws Error when a plan is wrong, when a step does nothing for anybody, and when something is left at the end
 */
export function runTrace(shape: RunnerShape, requests: readonly TraceRequest[]): Outcome {
  const scheduler = new Scheduler(shape);
  const runner = new CheckedRunner(shape);
  const heard: Heard[] = requests.map(() => ({
    tokens: [],
    promptLogprobs: undefined,
    end: undefined,
    wait: undefined,
  }));
  const byId = new Map<number, number>();
  const ids: number[] = [];
  const plans: StepPlan[] = [];
  // If each were alone, and preempted after every token.
  const most = requests.reduce((sum, { request }) => sum + longest(shape, request), 1);
  const last = Math.max(0, ...requests.map(({ at }) => at));
  for (let step = 0; ; step++) {
    requests.forEach(({ at, request }, index) => {
      if (at === step) {
        ids[index] = scheduler.submit(request);
        byId.set(ids[index], index);
      }
    });
    const cancel = (underWay: boolean): void =>
      requests.forEach(({ at, cancelAfter = -1 }, index) => {
        if (at + cancelAfter !== step || cancelAfter < 0 || (cancelAfter % 2 === 1) !== underWay) return;
        if (scheduler.end(ids[index])) heard[index].end = "cancelled";
      });
    cancel(false);
    const plan = scheduler.plan();
    if (plan === undefined) {
      if (step < last) continue;
      break;
    }
    plans.push(plan);
    if (plans.length > most) throw new Error(`After ${most} steps there is still something to do`);
    const work = plan.ranks.some(({ prefill, decode }) => prefill !== undefined || decode.length > 0);
    const { running, waiting } = scheduler.figures();
    if (!work && running + waiting > 0) throw new Error(`Step ${step} does nothing, and ${waiting} wait`);
    checkOrder(
      plan,
      [...byId].filter(([, index]) => heard[index].end === undefined).map(([id]) => id),
    );
    const result = runner.run(plan);
    cancel(true);
    for (const { sequence, token, promptLogprobs, end } of scheduler.settle(result)) {
      const index = byId.get(sequence)!;
      const owner = heard[index];
      if (owner.end !== undefined) throw new Error(`Sequence ${sequence} hears of something after its end`);
      if (promptLogprobs !== undefined) {
        if (owner.promptLogprobs !== undefined || owner.tokens.length > 0)
          throw new Error(`Sequence ${sequence} is told of its prompt late, or twice`);
        owner.promptLogprobs = promptLogprobs;
      }
      if (token !== undefined) owner.tokens.push(token.id);
      owner.wait ??= step - requests[index].at + 1;
      owner.end = end;
      if (owner.tokens.length === requests[index].enough && scheduler.end(sequence)) owner.end = "stop";
    }
  }
  if (!runner.isEmpty) throw new Error("Ranks hold something at the end");
  return { heard, figures: scheduler.figures(), plans };
}

/** Steps of a request that begins again for each of its tokens. */
function longest({ chunk }: RunnerShape, { prompt, sampling }: SequenceRequest): number {
  const tokens = sampling.maxNewTokens + 1;
  return tokens * (Math.ceil(prompt.length / chunk) + tokens + 1);
}

/** Nobody begins, or begins again, while somebody who came before waits. */
function checkOrder({ ranks }: StepPlan, alive: readonly number[]): void {
  const starts = ranks.flatMap((rank) => rank.starts.map(({ sequence }) => sequence));
  const held = new Set(ranks.flatMap(({ prefill, decode }) => [...decode, prefill?.sequence]));
  const waiting = alive.filter((id) => !held.has(id));
  if (Math.max(-1, ...starts) > Math.min(Infinity, ...waiting))
    throw new Error(`Of ${starts.join()} that begin, some overtake ${waiting.join()}`);
}

/** What was heard that is not what the request alone would have brought; undefined: nothing. */
function difference(shape: RunnerShape, trace: TraceRequest, heard: Heard): string | undefined {
  const { prompt, sampling } = trace.request;
  const all = aloneTokens(prompt, sampling, new Scheduler(shape).contextLength);
  const stopped = sampling.stopTokens.includes(all.at(-1) ?? -1) ? "stop" : "length";
  const enough = trace.enough ?? Infinity;
  const wanted =
    heard.end === "cancelled" ? all.slice(0, heard.tokens.length) : all.slice(0, Math.max(enough, 1));
  if (heard.tokens.join() !== wanted.join()) return `tokens ${heard.tokens.join()}; wanted ${wanted.join()}`;
  const end = enough < all.length ? "stop" : stopped;
  if (heard.end !== end && !(heard.end === "cancelled" && trace.cancelAfter !== undefined))
    return `the end is ${heard.end}; wanted ${end}`;
  const told = heard.promptLogprobs;
  const owed =
    sampling.promptLogprobs !== undefined && (heard.end !== "cancelled" || heard.tokens.length > 0);
  if (told === undefined) return owed ? "nothing is told of the prompt" : undefined;
  const logprobs = prompt.slice(1).map((id, row) => logprobOf(prompt.slice(0, row + 1), id));
  return JSON.stringify(told) === JSON.stringify(logprobs) && sampling.promptLogprobs !== undefined
    ? undefined
    : "what is told of the prompt is wrong";
}

/** Shapes from one row upwards, with budgets from one sequence to all that slots could hold. */
function shapes(ranks: number): fc.Arbitrary<RunnerShape> {
  return fc
    .record({
      ranks: fc.integer({ min: 1, max: ranks }),
      slots: fc.integer({ min: 1, max: 6 }),
      capacity: fc.integer({ min: 2, max: 64 }),
      chunk: fc.integer({ min: 1, max: 16 }),
      granule: fc.integer({ min: 1, max: 8 }),
      budgetPercent: fc.nat({ max: 100 }),
    })
    .map(({ budgetPercent, ...shape }) => {
      const least = Math.max(shape.granule, 2);
      const most = shape.slots * (shape.capacity + shape.granule);
      return {
        ...shape,
        budgetRows: least + Math.floor((budgetPercent / 100) ** 3 * Math.max(0, most - least)),
      };
    });
}

/** Requests that fit a context: prompts begin alike in families, some are as long as they can be. */
export function requests(contextLength: number, steps: number): fc.Arbitrary<TraceRequest> {
  const oneIn = <T>(n: number, of: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
    fc.oneof({ arbitrary: fc.constant(undefined), weight: n - 1 }, { arbitrary: of, weight: 1 });
  return fc
    .record({
      at: fc.nat({ max: steps }),
      family: fc.nat({ max: 3 }),
      sharedPercent: fc.nat({ max: 100 }),
      tail: fc.array(fc.nat({ max: VOCAB - 1 }), { minLength: 1, maxLength: 12 }),
      maxNewTokens: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 60 })),
      stopTokens: fc.array(fc.nat({ max: VOCAB - 1 }), { maxLength: 1 }),
      promptLogprobs: oneIn(6, fc.constant(0)),
      cancelAfter: oneIn(6, fc.nat({ max: 40 })),
      enough: oneIn(6, fc.integer({ min: 1, max: 10 })),
    })
    .map(
      ({
        at,
        family,
        sharedPercent,
        tail,
        maxNewTokens,
        stopTokens,
        promptLogprobs,
        cancelAfter,
        enough,
      }) => {
        const common = Array.from(
          { length: Math.floor((sharedPercent / 100) ** 2 * contextLength) },
          (_, i) => (i * family) % 7,
        );
        const prompt = [...common, ...tail].slice(0, contextLength - Math.min(1, maxNewTokens));
        const sampling = { ...GREEDY, maxNewTokens, stopTokens, promptLogprobs };
        return { at, request: { prompt, sampling }, cancelAfter, enough };
      },
    );
}

export interface Trace {
  readonly shape: RunnerShape;
  readonly requests: readonly TraceRequest[];
}

/** @param most ranks, requests, and steps within which they come, at most */
export function traces(most: { ranks: number; requests: number; steps: number }): fc.Arbitrary<Trace> {
  // Without a bias towards small numbers: what is small is not crowded.
  return fc.noBias(
    shapes(most.ranks).chain((shape) =>
      fc.record({
        shape: fc.constant(shape),
        requests: fc.array(requests(new Scheduler(shape).contextLength, most.steps), {
          minLength: 2,
          maxLength: most.requests,
          size: "max",
        }),
      }),
    ),
  );
}

/** Runs a trace, and says of each request that got something else than it gets alone. */
export function wrongIn({ shape, requests }: Trace): Outcome & { wrong: string[] } {
  const outcome = runTrace(shape, requests);
  const wrong = outcome.heard.flatMap((owner, index) => {
    const what = difference(shape, requests[index], owner);
    return what === undefined ? [] : [`request ${index}: ${what}`];
  });
  return { ...outcome, wrong };
}
