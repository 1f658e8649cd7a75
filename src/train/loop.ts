/** The training loop: steps, evaluation now and then, and whoever watches. */
import { maxScalars } from "../comm/collectives.js";
import { nowMs } from "../core/clock.js";
import { collectGarbage } from "../core/garbage.js";
import type { Observer } from "./observers/observer.js";
import { stepTiming } from "./observers/report.js";
import { type PreparedRun, stepInputs } from "./prepare.js";
import { trainStep } from "./step.js";

/** Steps between collections of garbage; the first takes what preparing data and compiling kernels left. */
const COLLECT_INTERVAL = 100;

export interface LoopEnd {
  readonly steps: number;
  readonly validationLoss: number | null;
}

/** @throws EnvironmentError of an observer, CommError when a peer does not answer or is lost */
export async function trainLoop(run: PreparedRun, observers: readonly Observer[]): Promise<LoopEnd> {
  const { rank, placer, evaluator } = run;
  const { steps, eval_interval: evalInterval } = run.config.train;
  let step = run.startStep;
  let validationLoss: number | null = null;
  let isStopped = false;
  while (step < steps && !isStopped) {
    const { batches, options } = stepInputs(run, step);
    const { sessions } = placer;
    const startMs = nowMs();
    const report = trainStep(rank, sessions, batches, options);
    const timing = stepTiming(report, nowMs() - startMs);
    step++;
    if (step % COLLECT_INTERVAL === 1) collectGarbage();
    isStopped = await wantsToStop(run);
    const isLast = step === steps;
    const isEvaluated = isLast || (evalInterval !== undefined && step % evalInterval === 0);
    if (isEvaluated) validationLoss = evaluator.run();
    const facts = { step, isLast, isStopped, options, batches, sessions, report, timing };
    for (const observer of observers) observer.step?.({ ...facts, validationLoss, isEvaluated });
  }
  // A run that was complete already has not been evaluated.
  if (!isStopped) validationLoss ??= evaluator.run();
  return { steps: step, validationLoss };
}

/** The event loop must turn for a signal to be seen; all ranks must agree that it was. */
async function wantsToStop({ context }: PreparedRun): Promise<boolean> {
  await new Promise((resolve) => setImmediate(resolve));
  return maxScalars(context.world, [context.interrupted() ? 1 : 0], "stop?")[0] > 0;
}
