/**
 * Places a run's operators: once costs have been measured, and again when they have drifted. All ranks agree on costs
 * (medians over ranks of what is typical of recent steps); rank 0 computes a schedule and broadcasts it.
 */
import { broadcastJson, gatherJson } from "../comm/collectives.js";
import { once } from "../core/once.js";
import type { RunResult } from "../run/execution.js";
import { whyExposed } from "../schedule/diagnose.js";
import { workLabel } from "../program/work.js";
import { type Policy, parsePolicy } from "../schedule/policy.js";
import {
  type CostTable,
  type Costs,
  MeasuredCosts,
  agreedCosts,
  costDrift,
  estimatedCosts,
} from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { makeTimeline } from "../timeline/summary.js";
import type { Timeline } from "../timeline/timeline.js";
import {
  type Scheduled,
  type Scheduler,
  type StepProgram,
  type StepSessions,
  mainRun,
  openStep,
  placedRuns,
  reschedule,
} from "./step-sessions.js";
import type { Trainee } from "./trainee.js";

/** The first step compiles kernels, so its times are not used. Operators are placed after the third, and costs are looked at every tenth step from then on. */
const COMPILING_STEPS = 1;
const FIRST_PLACING_STEP = 3;
const LOOK_INTERVAL = 10;
/** Steps after the first placing from which a typical one is judged. */
const JUDGED_STEPS = 5;
/** Share by which costs must have changed for a new schedule to be sought, and share of the step that it must gain to be used. */
const DRIFT = 0.1;
const WORTHWHILE = 0.02;

export interface PlacerOptions {
  readonly program: Omit<StepProgram, "chunks">;
  readonly policy: string;
  /** Lines for people, on rank 0. */
  say(line: string): void;
}

export class Placer {
  readonly #costs = new MeasuredCosts();
  /** Of costs that are estimated: the same at every look. */
  readonly #sayOnce = once((line) => this.options.say(line));
  readonly #policy: Policy;
  #sessions: StepSessions;
  #placedCosts: CostTable | undefined;
  /** Last micro-batches of the steps to be judged; undefined once they have been, and on one rank. */
  #unjudged: RunResult[] | undefined;
  #steps = 0;

  constructor(
    readonly rank: Trainee,
    readonly options: PlacerOptions,
  ) {
    this.#policy = parsePolicy(options.policy);
    // Alone, nothing is measured that could be judged.
    this.#unjudged = rank.world.size === 1 ? undefined : [];
    this.#sessions = openStep(rank, this.program, this.#scheduler());
  }

  get sessions(): StepSessions {
    return this.#sessions;
  }

  /** What a micro-batch runs; chunks are part of the program. */
  get program(): StepProgram {
    return { ...this.options.program, chunks: this.#policy.chunks };
  }

  /** Learns from a step; at some steps all ranks look at the costs and may place operators anew. */
  remember(step: readonly RunResult[]): void {
    this.#steps++;
    const { world } = this.rank;
    const isAlone = world.size === 1;
    if (!isAlone && this.#steps > COMPILING_STEPS) for (const run of step) this.#costs.add(run.events);
    if (this.#policy.usesCosts && !isAlone) {
      if (this.#steps === FIRST_PLACING_STEP) this.#placeAgain(this.#agree(), "costs are known");
      else if (this.#steps > FIRST_PLACING_STEP && this.#steps % LOOK_INTERVAL === 0) this.#look();
    }
    const { program } = mainRun(this.#sessions).session;
    if (this.#steps > FIRST_PLACING_STEP)
      this.#unjudged?.push(...step.filter((run) => run.program === program).slice(-1));
    if (this.#unjudged?.length === JUDGED_STEPS) this.#judge(this.#unjudged);
  }

  #agree(): CostTable {
    return agreedCosts(gatherJson(this.rank.world, this.#costs.typical(), "costs"));
  }

  #look(): void {
    const table = this.#agree();
    const before = this.#placedCosts ?? {};
    const { share, most } = costDrift(mainRun(this.#sessions).session.program, before, table);
    if (share < DRIFT || most === undefined) return;
    const [was, is] = [before[most.cost] ?? 0, table[most.cost]];
    this.#placeAgain(
      table,
      `costs drifted by ${(share * 100).toFixed(0)} % (${workLabel(most)} ${was.toFixed(2)} → ${is.toFixed(2)} ms)`,
    );
  }

  /** Takes the new schedules if they are worth it. Either way the costs become those that the next drift is measured from. */
  #placeAgain(table: CostTable, reason: string): void {
    const isFirst = this.#placedCosts === undefined;
    this.#placedCosts = table;
    const costs = this.#costsOf(table);
    const ms = ({ session: { program }, schedule }: Scheduled): number =>
      simulate(program, schedule, { costs: [costs], eventsOf: [] }).summary.stepMs;
    const after = reschedule(this.#sessions, this.#scheduler(costs));
    const [oldMs, newMs] = [ms(mainRun(this.#sessions)), ms(mainRun(after))];
    if (!isFirst && newMs > oldMs * (1 - WORTHWHILE)) return;
    this.#sessions = after;
    this.options.say(
      `Step ${this.#steps}: ${reason}; ${mainRun(after).schedule.note}${isFirst ? "" : `, ${oldMs.toFixed(1)} ms as it was`}`,
    );
  }

  /** Once: if an overlap was asked for and did not happen, says why. */
  #judge(runs: readonly RunResult[]): void {
    this.#unjudged = undefined;
    const { world } = this.rank;
    const {
      schedule,
      session: { program },
    } = mainRun(this.#sessions);
    if (schedule.policy === "sequential") return;
    const onRanks = gatherJson(
      world,
      runs.map(({ events, exposed }) => ({ events, exposed })),
      "timelines",
    );
    const table = this.#agree();
    if (world.rank > 0) return;
    const costs = this.#costsOf(table);
    const timelines = runs.map((_, step) => {
      const ofStep = onRanks.map((steps) => steps[step]);
      const events = ofStep.flatMap((run) => run.events);
      const exposed = ofStep.flatMap((run) => run.exposed);
      return makeTimeline("measured", world.size, events, exposed);
    });
    // One step may have met anything; the one in the middle is typical.
    const byWait = timelines.sort((a, b) => waitedMs(a) - waitedMs(b));
    const found = whyExposed({
      program,
      schedule,
      measured: byWait[byWait.length >> 1],
      predicted: simulate(program, schedule, { costs: Array.from({ length: world.size }, () => costs) }),
    });
    if (found !== undefined) this.options.say(`Warning: ${found.message}`);
  }

  #costsOf(table: CostTable): Costs {
    const programs = placedRuns(this.#sessions).map(({ session }) => session.program);
    return estimatedCosts(table, programs, this.#sayOnce);
  }

  /** Schedules by the run's policy: rank 0 makes them, every rank has them. */
  #scheduler(costs?: Costs): Scheduler {
    const { world } = this.rank;
    return (program) => {
      const made = world.rank === 0 ? this.#policy.schedule(program, costs) : undefined;
      return broadcastJson(world, made, 0, "schedule");
    };
  }
}

function waitedMs({ summary: { exposedMs, lateMs } }: Timeline): number {
  return exposedMs + lateMs;
}
