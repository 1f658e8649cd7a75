/**
 * Places a run's operators: once costs have been measured, and again when they have drifted. All ranks agree on costs
 * (medians over ranks of what is typical of recent steps); rank 0 computes a schedule and broadcasts it.
 */
import { broadcastJson, gatherJson } from "../comm/collectives.js";
import type { ProgramOptions } from "../model/wiring.js";
import type { Program } from "../program/program.js";
import type { RunResult } from "../run/executor.js";
import type { Rank } from "../run/rank.js";
import { whyExposed } from "../schedule/diagnose.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../program/schedule.js";
import { type CostTable, MeasuredCosts, agreedCosts, costDrift, tableCosts } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { makeTimeline } from "../timeline/summary.js";
import type { Timeline } from "../timeline/timeline.js";
import { type StepPlans, planStep } from "./step.js";

/** The first step compiles kernels: its costs say nothing. After the third, costs are trusted; then looked at now and then. */
const COMPILING_STEPS = 1;
const FIRST_PLAN_STEP = 3;
const LOOK_INTERVAL = 10;
/** Steps after the first placing from which a typical one is judged. */
const JUDGED_STEPS = 5;
/** Change of the step's costs that calls for a new schedule, and what that must gain to replace the old one. */
const DRIFT = 0.1;
const WORTHWHILE = 0.02;

export interface PlannerOptions {
  readonly program: Omit<ProgramOptions, "chunks">;
  readonly policy: string;
  /** Lines for people, on rank 0. */
  say(line: string): void;
}

export class Planner {
  readonly #costs = new MeasuredCosts();
  #plans: StepPlans;
  #plannedAt: number | undefined;
  #plannedCosts: CostTable | undefined;
  /** Last micro-batches of the steps to be judged; undefined once they have been. */
  #unjudged: RunResult[] | undefined = [];
  #steps = 0;

  constructor(
    readonly rank: Rank,
    readonly options: PlannerOptions,
  ) {
    this.#plans = this.planWith(options.policy);
  }

  get plans(): StepPlans {
    return this.#plans;
  }

  /** The run's program under any policy; what depends on costs uses those known. */
  planWith(policyName: string): StepPlans {
    const policy = parsePolicy(policyName);
    // Other policies are compared on one program: chunks are part of the program.
    const { chunks } = parsePolicy(this.options.policy);
    const table = this.#plannedCosts;
    const costs = table === undefined ? undefined : tableCosts(table);
    return planStep(this.rank, { ...this.options.program, chunks }, (program) =>
      this.#fromFirst(() => policy.schedule(program, costs)),
    );
  }

  /** Learns from a step; at some steps all ranks look at the costs and may place operators anew. */
  remember(runs: readonly RunResult[]): void {
    this.#steps++;
    const { world } = this.rank;
    const isAlone = world.size === 1;
    if (!isAlone && this.#steps > COMPILING_STEPS) for (const run of runs) this.#costs.add(run.events);
    const { usesCosts } = parsePolicy(this.options.policy);
    if (usesCosts && !isAlone) {
      if (this.#steps === FIRST_PLAN_STEP) this.#replan(this.#agree(), "costs are known");
      else if (this.#steps > FIRST_PLAN_STEP && this.#steps % LOOK_INTERVAL === 0) this.#look();
    }
    if (this.#steps > FIRST_PLAN_STEP) this.#unjudged?.push(runs[runs.length - 1]);
    if (this.#unjudged?.length === JUDGED_STEPS) this.#judge(this.#unjudged);
  }

  #agree(): CostTable {
    return agreedCosts(gatherJson(this.rank.world, this.#costs.typical(), "costs"));
  }

  #look(): void {
    const table = this.#agree();
    const { share, cost } = costDrift(this.#plans.last.program, this.#plannedCosts ?? {}, table);
    if (share < DRIFT) return;
    const was = this.#plannedCosts?.[cost] ?? 0;
    const name = cost.replace(/^\w+ /, "");
    this.#replan(
      table,
      `costs drifted by ${(share * 100).toFixed(0)} % (${name} ${was.toFixed(2)} → ${table[cost].toFixed(2)} ms)`,
    );
  }

  /** New schedules where they are worth it. Costs count as planned with either way: the next drift is from here. */
  #replan(table: CostTable, reason: string): void {
    this.#plannedCosts = table;
    const costs = tableCosts(table);
    const ms = (program: Program, schedule: Schedule): number =>
      simulate(program, schedule, { costs: [costs], eventsOf: [] }).summary.stepMs;
    const before = this.#plans.last;
    const after = this.planWith(this.options.policy);
    const [oldMs, newMs] = [ms(before.program, before.schedule), ms(after.last.program, after.last.schedule)];
    const isFirst = this.#plannedAt === undefined;
    this.#plannedAt ??= this.#steps;
    if (!isFirst && newMs > oldMs * (1 - WORTHWHILE)) return;
    this.#plans = after;
    this.options.say(
      `Step ${this.#steps}: ${reason}; ${after.last.schedule.note}${isFirst ? "" : `, ${oldMs.toFixed(1)} ms as it was`}`,
    );
  }

  /** Once: if an overlap was asked for and did not happen, says why. */
  #judge(runs: readonly RunResult[]): void {
    this.#unjudged = undefined;
    const { world } = this.rank;
    const { program, schedule } = this.#plans.last;
    if (schedule.policy === "sequential") return;
    const onRanks = gatherJson(
      world,
      runs.map(({ events, exposed }) => ({ events, exposed })),
      "timelines",
    );
    const table = this.#agree();
    if (world.rank > 0) return;
    const costs = tableCosts(table);
    const timelines = runs.map((_, step) => {
      const [events, exposed] = [
        onRanks.flatMap((steps) => steps[step].events),
        onRanks.flatMap((steps) => steps[step].exposed),
      ];
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
    // One rank with the default policy is no surprise to anyone.
    if (found !== undefined && found.cause !== "one rank") this.options.say(`Warning: ${found.message}`);
  }

  /** What rank 0 makes, on every rank. */
  #fromFirst(make: () => Schedule): Schedule {
    const { world } = this.rank;
    return broadcastJson(world, world.rank === 0 ? make() : undefined, 0, "schedule");
  }
}

function waitedMs({ summary: { exposedMs, lateMs } }: Timeline): number {
  return exposedMs + lateMs;
}
