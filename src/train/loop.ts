/** The training loop: steps, evaluation now and then, and whoever watches. */
import { join } from "node:path";
import { maxScalars } from "../comm/collectives.js";
import { nowMs } from "../core/clock.js";
import { NumericsError } from "../core/errors.js";
import { collectGarbage } from "../core/garbage.js";
import { whatIsSaved } from "../storage/checkpoint-names.js";
import type { Observer } from "./observers/observer.js";
import { stepTiming } from "./observers/report.js";
import { type PreparedRun, stepInputs } from "./prepare.js";
import type { Update } from "./optimizer.js";
import { type StepReport, applyUpdate, computeStep } from "./step.js";

/** Steps between collections of garbage; the first takes what preparing data and compiling kernels left. */
const COLLECT_INTERVAL = 100;
/** Steps in a row that may be skipped: a model that has diverged does not come back. */
const MAX_SKIPPED = 20;

export interface LoopEnd {
  readonly steps: number;
  readonly validationLoss: number | null;
}

/**
 * @throws NumericsError at a step that is not finite, unless such steps are skipped; EnvironmentError of an observer;
 *   CommError when a peer does not answer or is lost
 */
export async function trainLoop(
  run: PreparedRun,
  directory: string,
  observers: readonly Observer[],
): Promise<LoopEnd> {
  const { rank, placer, evaluator } = run;
  const { steps, eval_interval: evalInterval } = run.config.train;
  const skips = new Skips(run, directory);
  let { step } = run.start;
  let validationLoss: number | null = null;
  let isStopped = false;
  /** What the step before has left to the next one. */
  let left: Update | undefined;
  while (step < steps && !isStopped) {
    const { batches, options, position } = stepInputs(run, step, skips.total);
    const { sessions } = placer;
    const startMs = nowMs();
    const computed = computeStep(rank, sessions, batches, options, left);
    let ms = nowMs() - startMs;
    let { report } = computed;
    left = computed.update;
    skips.count(++step, report);
    run.context.completed(step);
    if (step % COLLECT_INTERVAL === 1) collectGarbage();
    const wishes = await agreedWishes(run, observers);
    isStopped = wishes.isStopped;
    const isLast = step === steps;
    const isEvaluated = isLast || (evalInterval !== undefined && step % evalInterval === 0);
    const at = { step, isLast, ...wishes };
    const isRead =
      isLast || isEvaluated || observers.some((observer) => observer.readsWeights?.(at) ?? false);
    if (left !== undefined && isRead) {
      const updateMs = nowMs();
      report = { ...report, runs: [...report.runs, applyUpdate(sessions, left)] };
      ms += nowMs() - updateMs;
      left = undefined;
    }
    const timing = stepTiming(report, ms);
    if (isEvaluated) validationLoss = evaluator.run();
    const done = {
      ...at,
      isUpdated: left === undefined,
      options,
      batches,
      sessions,
      report,
      timing,
      skipped: skips.total,
      sequences: position + run.config.train.batch_size,
    };
    for (const observer of observers) observer.step?.({ ...done, validationLoss, isEvaluated });
  }
  // A run that was complete already has not been evaluated.
  if (!isStopped) validationLoss ??= evaluator.run();
  return { steps: step, validationLoss };
}

interface Wishes {
  readonly isStopped: boolean;
  readonly isSaveWanted: boolean;
}

/**
 * The event loop must turn for a signal to be seen; all ranks must agree that it was. Whether it is time to save is up to
 * rank 0: clocks differ.
 */
async function agreedWishes({ context }: PreparedRun, observers: readonly Observer[]): Promise<Wishes> {
  await new Promise((resolve) => setImmediate(resolve));
  const { world } = context;
  const wantsSave = world.rank === 0 && observers.some((observer) => observer.wantsSave?.() ?? false);
  const own = [context.interrupted() ? 1 : 0, wantsSave ? 1 : 0];
  const [stop, save] = maxScalars(world, own, "stop or save?");
  return { isStopped: stop > 0, isSaveWanted: save > 0 };
}

/** Steps that were not applied. */
class Skips {
  #inARow = 0;
  total: number;

  constructor(
    readonly run: PreparedRun,
    readonly directory: string,
  ) {
    this.total = run.start.skipped;
  }

  /** @throws NumericsError when such a step ends the run */
  count(step: number, { nonFinite }: StepReport): void {
    if (nonFinite === undefined) {
      this.#inARow = 0;
      return;
    }
    const { config, context } = this.run;
    const what = `Step ${step} was not applied: ${nonFinite} is not finite`;
    if (config.train.on_nonfinite === "stop")
      throw new NumericsError(
        `${what}; ${this.#saved()}; lower train.learning_rate, or set train.on_nonfinite=skip to leave such steps out`,
      );
    this.total++;
    if (++this.#inARow >= MAX_SKIPPED)
      throw new NumericsError(`${what}, nor were the ${MAX_SKIPPED - 1} before it; ${this.#saved()}`);
    context.say(what);
  }

  #saved(): string {
    return whatIsSaved(join(this.directory, "checkpoints"));
  }
}
