/** Steps of a scheduler, one at a time, on checked caches. */
import { GREEDY, type SamplingParameters } from "../src/infer/sampling/sampling-parameters.js";
import { Scheduler, type SequenceEvent } from "../src/infer/batching/scheduler.js";
import type { RankPlan, RunnerShape, StepPlan } from "../src/infer/step-plan.js";
import type { TraceRequest } from "./batching-trace.js";
import { CheckedRunner } from "./checked-runner.js";

export const SHAPE: RunnerShape = { ranks: 1, slots: 4, capacity: 64, chunk: 4, budgetRows: 256, granule: 4 };
export const prompt = (length: number, first = 0): number[] =>
  Array.from({ length }, (_, i) => (first + i) % 50);

/** A scheduler and the ranks below it. */
export function stepper(shape: Partial<RunnerShape> = {}) {
  const full = { ...SHAPE, ...shape };
  const scheduler = new Scheduler(full);
  const runner = new CheckedRunner(full);
  return {
    scheduler,
    submit: (tokens: readonly number[], sampling: Partial<SamplingParameters> = {}): number =>
      scheduler.submit({ prompt: tokens, sampling: { ...GREEDY, maxNewTokens: 8, ...sampling } }),
    step: (): { plan: StepPlan; rank: RankPlan; events: SequenceEvent[] } => {
      const plan = scheduler.plan()!;
      return { plan, rank: plan.ranks[0], events: scheduler.settle(runner.run(plan)) };
    },
    runner,
  };
}
export const kinds = ({ cache }: RankPlan): string[] => cache.map(({ kind }) => kind);
export const at = (
  step: number,
  tokens: readonly number[],
  sampling: Partial<SamplingParameters> = {},
): TraceRequest => ({
  at: step,
  request: { prompt: tokens, sampling: { ...GREEDY, maxNewTokens: 8, ...sampling } },
});
