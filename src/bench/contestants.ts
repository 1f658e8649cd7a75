/** What a comparison runs: one program per architecture, policy and mode; models are shared between rows. */
import { barrier, broadcastJson, gatherJson } from "../comm/collectives.js";
import { nowMs } from "../core/clock.js";
import { once } from "../core/once.js";
import { mean } from "../core/statistics.js";
import type { Engine } from "../engine/engine.js";
import { type ModelInput, resolveModel } from "../model/config.js";
import type { Program } from "../program/program.js";
import { clockOffset, gatherTimeline } from "../run/gather-timeline.js";
import type { JobContext } from "../launch/job.js";
import type { RunResult } from "../run/execution.js";
import type { Session } from "../run/session.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../program/schedule.js";
import { type CostTable, type Costs, MeasuredCosts, agreedCosts, estimatedCosts } from "../simulate/costs.js";
import type { Timeline, TimelineEvent } from "../timeline/timeline.js";
import { type Trainee, createTrainee } from "../train/trainee.js";
import { inferenceCase } from "./inference-case.js";
import { TRAINING_MODES, type TrainingShape, trainingCase } from "./training-case.js";

/**
 * forward: loss only; train: forward and backward of a micro-batch; step: a whole optimiser step, with several micro-batches, reduction,
 * clipping and update; prefill: a prompt into a cache; decode: a token of each of many sequences over theirs.
 */
export const COMPARE_MODES = [...TRAINING_MODES, "prefill", "decode"] as const;
/** What one step of a comparison runs: see COMPARE_MODES. */
export type CompareMode = (typeof COMPARE_MODES)[number];

/** `batch`, `sequence`: prefill reads one sequence, decode has so many tokens of each in the cache. */
export interface ContestantOptions extends TrainingShape {
  /** Model without `arch`. */
  readonly model: Omit<ModelInput, "arch">;
  readonly epSize?: number;
  /** Even out the gates of the fresh models first, as training would. */
  readonly balanced: boolean;
}

/** One row under way. */
export interface Contestant {
  readonly arch: string;
  readonly policy: string;
  readonly mode: CompareMode;
  readonly session: Session;
  /** On this rank, once all ranks are ready. */
  readonly run: (schedule: Schedule) => RunResult;
  /** Before that. */
  readonly prepare: () => void;
  /** After. */
  readonly release: () => void;
  schedule: Schedule;
  readonly costs: MeasuredCosts;
  /** What the ranks agreed on before the measured rounds. */
  costsBefore?: CostTable;
  readonly runs: MeasuredStep[];
}

export interface MeasuredStep {
  /** From when the last rank was ready until the slowest was done. */
  readonly stepMs: number;
  readonly timeline: Timeline;
}

const NOTHING = { prepare: () => undefined, release: () => undefined };

/** Of a rank: more tokens take longer and tell little more. */
const BALANCE_TOKENS = 4096;
const BALANCE_ROUNDS = 12;
const BALANCE_RATE = 0.05;

function middleHalf(runs: readonly MeasuredStep[]): MeasuredStep[] {
  const sorted = runs.toSorted((a, b) => a.stepMs - b.stepMs);
  const drop = Math.floor(sorted.length / 4);
  return sorted.slice(drop, sorted.length - drop);
}

/** All ranks make the same calls in the same order. */
export class Contestants {
  /** Of costs that are estimated. */
  readonly #sayOnce = once((line) => this.context.say(line));
  readonly #ranks = new Map<string, Trainee>();
  readonly #clockOffsetMs: number;

  constructor(
    readonly context: JobContext,
    readonly options: ContestantOptions,
    readonly engine: Engine,
  ) {
    this.#clockOffsetMs = clockOffset(context.world);
  }

  enter(arch: string, policy: string, mode: CompareMode): Contestant {
    const rank = this.#rankOf(arch);
    const shape = { ...this.options, policy: parsePolicy(policy) };
    const parts =
      mode === "prefill" || mode === "decode"
        ? { ...inferenceCase(rank, mode, shape), ...NOTHING }
        : trainingCase(rank, mode, shape);
    const schedule = this.#schedule(policy, parts.session.program);
    return { arch, policy, mode, ...parts, schedule, costs: new MeasuredCosts(), runs: [] };
  }

  /** One run on all ranks. */
  measure({ prepare, run: start, release, schedule }: Contestant): MeasuredStep {
    const { world } = this.context;
    prepare();
    barrier(world, "ready").wait();
    const startMs = nowMs();
    const run = start(schedule);
    const ownMs = nowMs() - startMs;
    run.release();
    release();
    const { events, exposed } = run;
    const timeline = gatherTimeline(world, [{ events, exposed, startMs: run.startMs }], this.#clockOffsetMs);
    return { stepMs: Math.max(...gatherJson(world, ownMs, "step times")), timeline };
  }

  /** Adds what this rank measured to its costs. */
  learn(contestant: Contestant, step: MeasuredStep): void {
    contestant.costs.add(this.#ownEvents(step));
  }

  /** What ranks agree on, of the measured rounds alone. */
  costsOfRounds({ runs }: Contestant): CostTable {
    const { world } = this.context;
    const costs = new MeasuredCosts();
    for (const step of runs) costs.add(this.#ownEvents(step));
    return agreedCosts(gatherJson(world, costs.typical(), "costs of rounds"));
  }

  /** What each rank measured: one may be slower than another. */
  costsOfRanks(contestant: Contestant): CostTable[] {
    return gatherJson(this.context.world, contestant.costs.typical(), "costs");
  }

  /**
   * Each operator's own, on each rank: the same tokens in every run send one layer's experts more rows, another's fewer. Means over the
   * middle half of the steps, not of each operator's times: in every step something else is interrupted.
   */
  ownCostsOfRanks({ runs }: Contestant): Costs[] {
    const { world } = this.context;
    const own = new MeasuredCosts(({ operator }) => String(operator), mean);
    for (const step of middleHalf(runs)) own.add(this.#ownEvents(step));
    const tables = gatherJson(world, own.typical(), "costs of operators");
    return tables.map((table) => (op) => table[op.id]);
  }

  /** Ranks agree on the costs measured so far; operators are placed on them where the policy does so. */
  placeAgain(contestant: Contestant): void {
    const table = agreedCosts(this.costsOfRanks(contestant));
    contestant.costsBefore = table;
    if (!parsePolicy(contestant.policy).usesCosts) return;
    contestant.schedule = this.#schedule(contestant.policy, contestant.session.program, table);
  }

  /** Costs from a table that was measured on the program. */
  costsOf(table: CostTable, program: Program): Costs {
    return estimatedCosts(table, [program], this.#sayOnce);
  }

  #ownEvents({ timeline }: MeasuredStep): TimelineEvent[] {
    const { rank } = this.context.world;
    return timeline.events.filter((event) => event.rank === rank);
  }

  #schedule(policy: string, program: Program, table?: CostTable): Schedule {
    const { world } = this.context;
    const make = (): Schedule =>
      parsePolicy(policy).schedule(program, table === undefined ? undefined : this.costsOf(table, program));
    return broadcastJson(world, world.rank === 0 ? make() : undefined, 0, "schedule");
  }

  #rankOf(arch: string): Trainee {
    let rank = this.#ranks.get(arch);
    if (rank === undefined) {
      // Fresh gates send most rows to a few experts, trained ones do not: a selection bias evens them out.
      const balance = this.options.balanced ? "bias" : "none";
      const config = resolveModel({ ...this.options.model, arch, balance, balance_groups: undefined });
      const { epSize } = this.options;
      rank = createTrainee({ config, engine: this.engine, world: this.context.world, epSize });
      rank.weights.initialize(1, config.initializer_range);
      this.#ranks.set(arch, rank);
      if (this.options.balanced) this.#balance(arch);
    }
    return rank;
  }

  /** Moves each gate's selection bias against the load of its experts, over all ranks, until loads are about even. */
  #balance(arch: string): void {
    const { world } = this.context;
    const rank = this.#rankOf(arch);
    if (rank.config.architecture.routed === "none") return;
    const { sequence } = this.options;
    const batch = Math.min(this.options.batch, Math.max(1, Math.floor(BALANCE_TOKENS / sequence)));
    const shape = { ...this.options, batch, policy: parsePolicy("sequential") };
    const { session, prepare, run: start, release, loads: loadsOf } = trainingCase(rank, "forward", shape);
    const schedule = this.#schedule("sequential", session.program);
    for (let round = 0; round < BALANCE_ROUNDS; round++) {
      this.context.progress(`balancing the gates of ${arch}`);
      prepare();
      const run = start(schedule);
      const loads = loadsOf(run);
      run.release();
      release();
      const everywhere = gatherJson(
        world,
        loads.map(({ rows }) => rows),
        "loads",
      );
      loads.forEach(({ shape: { selectionBias }, rows }, r) => {
        const bias = rank.weights.buffers.get(selectionBias as string)?.data;
        const load = rows.map((_, e) => everywhere.reduce((sum, rankLoads) => sum + rankLoads[r][e], 0));
        const mean = load.reduce((a, b) => a + b, 0) / load.length;
        const rate = BALANCE_RATE / (1 + round / 4);
        if (bias !== undefined)
          load.forEach((rows, e) => (bias[e] += rate * Math.max(-1, Math.min(1, (mean - rows) / mean))));
      });
    }
  }
}
