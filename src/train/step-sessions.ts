/** The programs of an optimiser step, made ready once. */
import {
  type TrainingOptions,
  type TrainingProgram,
  buildGatesProgram,
  buildTrainingProgram,
  countsWholeStep,
} from "../model/training-program.js";
import type { TensorRun } from "../model/buckets.js";
import type { ModelProgram } from "../model/language-model.js";
import type { Program } from "../program/program.js";
import { type ReductionBucket, weightGathering, withReduction } from "../program/reduction.js";
import type { Schedule } from "../program/schedule.js";
import { groupOf } from "../run/actions/reduction.js";
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
  readonly model: TrainingProgram;
  /** The gates of a micro-batch, ahead of everything: where the balance of the step's several micro-batches is one. */
  readonly gates?: GateSession;
  /** Every micro-batch but the last; and the last, which also reduces gradients. */
  readonly accumulate: Scheduled;
  readonly last: Scheduled;
  /** ZeRO-1: gathers updated weights. */
  readonly gather?: Scheduled;
}

export interface GateSession extends Scheduled {
  readonly model: ModelProgram;
}

/** Makes a schedule for a program; called once per program (and again when costs drift). */
export type Scheduler = (program: Program) => Schedule;

/** The program of a micro-batch, and how many of them a step has (default one). */
export interface StepProgram extends Omit<TrainingOptions, "statistics"> {
  readonly microBatches?: number;
}

export function openStep(rank: Trainee, options: StepProgram, scheduler: Scheduler): StepSessions {
  const { microBatches = 1, ...program } = options;
  const isAhead = microBatches > 1 && countsWholeStep(rank.config);
  const wires = { ...program, ranks: rank.world.size };
  const model = buildTrainingProgram(rank.config, { ...wires, statistics: isAhead ? "fed" : "summed" });
  const routings = ({ routings: of }: ModelProgram): number[] => of.map(({ data }) => data.routing);
  const keep = keptValues(isAhead ? { ...model, statistics: undefined } : model);
  const scheduled = (of: Program, by: Scheduler, kept = keep): Scheduled => ({
    session: new Session(rank, of, { keep: kept }),
    schedule: by(of),
  });
  const buckets = reductionBuckets(rank);
  const gathering = weightGathering(buckets);
  const gates = isAhead ? buildGatesProgram(rank.config, wires) : undefined;
  return {
    model,
    gates: gates && { model: gates, ...scheduled(gates.program, scheduler, routings(gates)) },
    accumulate: scheduled(model.program, scheduler),
    last: scheduled(withReduction(model.program, buckets), scheduler),
    gather: gathering.operators.length === 0 ? undefined : scheduled(gathering, sequential),
  };
}

/** The same sessions in another order. */
export function reschedule(sessions: StepSessions, scheduler: Scheduler): StepSessions {
  const again = <S extends Scheduled>(scheduled: S): S => ({
    ...scheduled,
    schedule: scheduler(scheduled.session.program),
  });
  const { gates, accumulate, last } = sessions;
  return { ...sessions, gates: gates && again(gates), accumulate: again(accumulate), last: again(last) };
}

/** What a step of so many micro-batches runs, in order. */
export function runsOfStep(
  { gates, accumulate, last, gather }: StepSessions,
  microBatches: number,
): Scheduled[] {
  return [
    ...(gates === undefined ? [] : Array.from({ length: microBatches }, () => gates)),
    ...Array.from({ length: microBatches - 1 }, () => accumulate),
    last,
    ...(gather === undefined ? [] : [gather]),
  ];
}

/** What is read after a micro-batch: losses, routings, statistics. */
export function keptValues({ output, distilled, routings, statistics }: TrainingProgram): number[] {
  const kept = [
    output,
    ...(distilled === undefined ? [] : [distilled.divergences]),
    ...routings.map(({ data }) => data.routing),
  ];
  return statistics === undefined ? kept : [...kept, statistics];
}

/** A rank as the reduction of its gradients sees it: before it is made, too. */
export interface Reducing extends Pick<Trainee, "zero"> {
  readonly world: Pick<Trainee["world"], "size">;
  readonly replicas: Pick<Trainee["world"], "size">;
  readonly weights: { readonly buckets: readonly Pick<TensorRun, "name" | "kind" | "size" | "infos">[] };
}

/** What `withReduction` must know of a rank's gradient buckets. */
export function reductionBuckets(rank: Reducing): ReductionBucket[] {
  return rank.weights.buckets.map((bucket) => ({
    name: bucket.name,
    families: bucket.infos.map(({ family }) => family),
    bytes: bucket.size * 4,
    group: groupOf(bucket),
    ranks: rank[groupOf(bucket)].size,
    gather: !(rank.zero && bucket.kind === "replicated"),
  }));
}
