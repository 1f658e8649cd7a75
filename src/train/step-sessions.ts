/** The programs of an optimiser step, made ready once. */
import {
  type TrainingOptions,
  type TrainingProgram,
  buildGatesProgram,
  buildTrainingProgram,
  countsWholeStep,
} from "../model/training-program.js";
import type { ModelConfig } from "../model/config.js";
import { reductionBuckets } from "../model/gradient-buckets.js";
import type { ModelProgram } from "../model/language-model.js";
import type { Program } from "../program/program.js";
import { dealGathers, withReduction, withUpdates } from "../program/reduction.js";
import { type RepeatedProgram, repeatProgram } from "../program/repeat.js";
import type { Schedule } from "../program/schedule.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import type { Trainee } from "./trainee.js";

/** A session and the order it runs in. */
export interface Scheduled {
  readonly session: Session;
  readonly schedule: Schedule;
}

/** What a step runs; another schedule makes another of these around the same sessions. */
export interface StepSessions {
  /** Of one micro-batch. */
  readonly model: TrainingProgram;
  /** Of a step. */
  readonly microBatches: number;
  /** By micro-batch of a run, then by id of a value of `model`: its id in the run's program. */
  readonly values: RepeatedProgram["values"];
  /** The gates of a micro-batch, ahead of everything: where the balance of the step's several runs is one. */
  readonly gates?: GateSession;
  /** Several micro-batches, whose gradients are added up on this rank alone; undefined where a step is one run. */
  readonly accumulate?: Scheduled;
  /** The last micro-batches of a step: their gradients, complete, go to their owners. */
  readonly last: Scheduled;
  /** What a step leaves to be done, by itself: the gather half of the reduction, and the optimiser's step. */
  readonly updates: UpdatingRun;
  /** The first run of a step behind what the step before left; undefined where gates come first, which read all weights. */
  readonly updating?: UpdatingRun;
}

export interface GateSession extends Scheduled {
  readonly model: ModelProgram;
}

export interface UpdatingRun extends Scheduled {
  /** Id of the value that is fed with an `Update`. */
  readonly update: number;
}

/** Makes a schedule for a program; called once per program (and again when costs drift). */
export type Scheduler = (program: Program) => Schedule;

/** The program of a micro-batch, how many of them a step has (default one), and how many a run (default: `runSize`). */
export interface StepProgram extends Omit<TrainingOptions, "statistics"> {
  readonly microBatches?: number;
  readonly microBatchesAtOnce?: number | undefined;
  /** Type of gradients on the network. Default f32. */
  readonly wireGradients?: "f32" | "bf16";
}

/** Their activations live at the same time: more hide little more. */
const MOST_AT_ONCE = 4;

/** Micro-batches of a step that are one program, where nothing is said: as many as divide them, up to four. */
export function runSize({
  microBatches = 1,
  microBatchesAtOnce,
}: Pick<StepProgram, "microBatches" | "microBatchesAtOnce">): number {
  if (microBatchesAtOnce !== undefined) return microBatchesAtOnce;
  for (let size = Math.min(MOST_AT_ONCE, microBatches); ; size--) if (microBatches % size === 0) return size;
}

/** Several micro-batches as one program, of a model as `stepModel` makes it. */
export interface StepModel extends RepeatedProgram {
  readonly model: TrainingProgram;
  /** Whether the balance of all runs of a step must be known before the first: then it is fed. */
  readonly isAhead: boolean;
}

/** The program of a run of micro-batches, without what becomes of their gradients. */
export function stepModel(config: ModelConfig, options: StepProgram & { readonly ranks: number }): StepModel {
  const { microBatches = 1, microBatchesAtOnce, wireGradients: _wire, ...wires } = options;
  const atOnce = runSize({ microBatches, microBatchesAtOnce });
  const isWhole = countsWholeStep(config);
  const isAhead = isWhole && microBatches > atOnce;
  const model = buildTrainingProgram(config, { ...wires, statistics: isAhead ? "fed" : "summed" });
  const common = [model.scales, ...(isWhole && model.statistics !== undefined ? [model.statistics] : [])];
  return { model, isAhead, ...repeatProgram(model.program, atOnce, { shared: new Set(common) }) };
}

export function openStep(rank: Trainee, options: StepProgram, scheduler: Scheduler): StepSessions {
  const { microBatches = 1, microBatchesAtOnce: _atOnce, wireGradients = "f32", ...wires } = options;
  const ranks = rank.world.size;
  const { model, program, values, isAhead } = stepModel(rank.config, { ...options, ranks });
  const keep = keptValues(isAhead ? { ...model, statistics: undefined } : model, values);
  const scheduled = (of: Program, kept: readonly number[] = keep, by = scheduler): Scheduled => ({
    session: new Session(rank, of, { keep: kept }),
    schedule: by(of),
  });
  const buckets = dealGathers(
    program,
    reductionBuckets(rank.weights.buckets, {
      ranks,
      epSize: rank.ep.size,
      zero: rank.zero,
      wire: wireGradients,
    }),
  );
  const isOneRun = microBatches === values.length;
  const reducing = withReduction(program, buckets);
  const updates = withUpdates({ ...program, name: "update of weights", operators: [] }, buckets, {
    clears: false,
  });
  const updating = withUpdates(isOneRun ? reducing : program, buckets, { clears: true });
  const gates = isAhead ? buildGatesProgram(rank.config, { ...wires, ranks }) : undefined;
  return {
    model,
    microBatches,
    values,
    gates: gates && { model: gates, ...scheduled(gates.program, routingValues(gates)) },
    accumulate: isOneRun ? undefined : scheduled(program),
    last: scheduled(reducing),
    updates: { update: updates.update, ...scheduled(updates.program, [], sequential) },
    updating: isAhead ? undefined : { update: updating.update, ...scheduled(updating.program) },
  };
}

/** The run that tells most of a step: all of it where it is one run, or else its last, which reduces. */
export function mainRun({ accumulate, updating, last }: StepSessions): Scheduled {
  return accumulate === undefined ? (updating ?? last) : last;
}

/** All that have a schedule to be chosen. */
export function placedRuns({ gates, accumulate, last, updating }: StepSessions): Scheduled[] {
  return [gates, accumulate, last, updating].filter((run) => run !== undefined);
}

/** The same sessions in another order. */
export function reschedule(sessions: StepSessions, scheduler: Scheduler): StepSessions {
  const again = <S extends Scheduled>(scheduled: S): S => ({
    ...scheduled,
    schedule: scheduler(scheduled.session.program),
  });
  const { gates, accumulate, last, updating } = sessions;
  return {
    ...sessions,
    gates: gates && again(gates),
    accumulate: accumulate && again(accumulate),
    last: again(last),
    updating: updating && again(updating),
  };
}

function routingValues({ routings }: ModelProgram): number[] {
  return routings.map(({ data }) => data.routing);
}

/** What is read after a run, of each of its micro-batches: losses, routings, statistics. */
export function keptValues(
  model: ModelProgram & Pick<TrainingProgram, "statistics">,
  values: RepeatedProgram["values"],
): number[] {
  const { output, distilled, statistics } = model;
  const kept = [
    output,
    ...(distilled === undefined ? [] : [distilled.divergences]),
    ...routingValues(model),
    ...(statistics === undefined ? [] : [statistics]),
  ];
  return [...new Set(values.flatMap((ofCopy) => kept.map((value) => ofCopy[value])))];
}
