/** A rank's part in carrying out plans: rank 0 hears of a step, all ranks do their part of it, rank 0 tells what came of it. */
import type { Communicator } from "../../comm/communicator.js";
import { gatherValues, scatterValues } from "../../comm/plain-values.js";
import { assert } from "../../core/errors.js";
import type { JobContext } from "../../launch/job.js";
import {
  type Phases,
  type RankPlan,
  type RankResult,
  type RunnerShape,
  type StepPlan,
  type StepResult,
  type StepTimes,
  phasesOf,
} from "../step-plan.js";

/** What a rank did in a step. */
export interface RankStep {
  readonly result: RankResult;
  /** Of this rank; those of rank 0 are told. */
  readonly times: StepTimes;
}

/** A model and its cache on a rank. Whatever it does with other ranks, all do in the same order. */
export interface ModelRunner {
  readonly shape: Omit<RunnerShape, "ranks">;
  /** Called on all ranks for every step. */
  run(plan: RankPlan, phases: Phases): RankStep;
  /**
   * Anything else that is asked between steps (a timeline), on all ranks; rank 0's answer is told. Plain data.
   */
  answer?(question: unknown): unknown;
  close(): void;
}

/** From whoever has launched the ranks to rank 0. */
export type RunnerCommand =
  | { readonly kind: "step"; readonly plan: StepPlan }
  | { readonly kind: "question"; readonly question: unknown };

/** And back: first that the ranks are ready, then an answer to each command, in their order. */
export type RunnerEvent =
  | { readonly kind: "ready"; readonly shape: RunnerShape }
  | { readonly kind: "step"; readonly result: StepResult }
  | { readonly kind: "answer"; readonly answer: unknown };

type RankCommand =
  | { readonly kind: "step"; readonly plan: RankPlan; readonly phases: Phases }
  | { readonly kind: "question"; readonly question: unknown }
  | { readonly kind: "close" };

/**
 * The body of a job that serves a model until whoever launched it closes the line: the same on all ranks. Ranks that have
 * nothing to do sleep, for as long as it takes.
 * @param open called on all ranks
 */
export function serveModel(
  context: JobContext<RunnerEvent>,
  open: (world: Communicator) => ModelRunner,
): void {
  const { world } = context;
  const model = open(world);
  try {
    // Reading weights takes one rank longer than another, by no known time.
    const shapes = gatherValues(world, model.shape, "open the model", Infinity);
    if (shapes !== undefined) context.emit({ kind: "ready", shape: commonShape(shapes) });
    for (let step = 1; ;) {
      const command = nextCommand(context);
      if (command.kind === "close") return;
      if (command.kind === "step") {
        runStep(context, model, command);
        context.completed(step++);
      } else {
        const answer = model.answer?.(command.question);
        if (world.rank === 0) context.emit({ kind: "answer", answer });
      }
    }
  } finally {
    model.close();
  }
}

/** What all ranks have: a sequence may go to any of them. */
function commonShape(shapes: readonly Omit<RunnerShape, "ranks">[]): RunnerShape {
  const [first] = shapes;
  for (const key of ["slots", "capacity", "chunk", "budgetRows", "granule"] as const)
    for (const [rank, shape] of shapes.entries())
      assert(shape[key] === first[key], `rank ${rank} has ${shape[key]} as ${key}, rank 0 ${first[key]}`);
  return { ...first, ranks: shapes.length };
}

function nextCommand({ world, inbox }: JobContext<RunnerEvent>): RankCommand {
  const label = "wait for a step";
  if (world.rank !== 0) return scatterValues<RankCommand>(world, undefined, label, Infinity);
  assert(inbox !== undefined, "a launch that serves a model needs an outbox");
  const command = inbox.receive()?.message as RunnerCommand | undefined;
  return scatterValues(world, commandsOf(command, world.size), label);
}

function commandsOf(command: RunnerCommand | undefined, ranks: number): RankCommand[] {
  if (command?.kind !== "step")
    return new Array<RankCommand>(ranks).fill(command === undefined ? { kind: "close" } : command);
  const { plan } = command;
  assert(plan.ranks.length === ranks, `a plan for ${plan.ranks.length} ranks, of ${ranks}`);
  const phases = phasesOf(plan);
  return plan.ranks.map((plan) => ({ kind: "step", plan, phases }));
}

function runStep(
  { world, emit }: JobContext<RunnerEvent>,
  model: ModelRunner,
  { plan, phases }: Extract<RankCommand, { kind: "step" }>,
): void {
  const { result, times } = model.run(plan, phases);
  const ranks = gatherValues(world, result, "end of the step");
  if (ranks !== undefined) emit({ kind: "step", result: { ranks, times } });
}
