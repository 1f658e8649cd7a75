/** What a comparison runs: one program per architecture, policy and mode; models are shared between rows. */
import { barrier, broadcastJson, gatherJson } from "../comm/collectives.js";
import { nowMs } from "../core/clock.js";
import { philox } from "../core/rng.js";
import type { Engine } from "../engine/engine.js";
import { type ModelInput, resolveModel } from "../model/config.js";
import { type ModelProgram, buildProgram } from "../model/wiring.js";
import type { Program } from "../program/program.js";
import { withReduction } from "../program/reduction.js";
import type { RoutingValue } from "../run/actions/gate.js";
import { actionTable } from "../run/actions/index.js";
import { type Plan, execute } from "../run/executor.js";
import { clockOffset, gatherTimeline } from "../run/gather-timeline.js";
import type { JobContext } from "../launch/job.js";
import { type Rank, createRank } from "../run/rank.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../program/schedule.js";
import { type CostTable, MeasuredCosts, agreedCosts, tableCosts } from "../simulate/costs.js";
import type { Timeline } from "../timeline/timeline.js";
import { reductionBuckets } from "../train/step.js";

/** forward: loss only; train: forward and backward of a micro-batch; train+reduce: also its gradients' reduction. */
export const COMPARE_MODES = ["forward", "train", "train+reduce"] as const;
/** What one step of a comparison runs: see COMPARE_MODES. */
export type CompareMode = (typeof COMPARE_MODES)[number];

export interface ContestantOptions {
  /** Model without `arch`. */
  readonly model: Omit<ModelInput, "arch">;
  readonly epSize?: number;
  /** Sequences per rank and tokens per sequence. */
  readonly batch: number;
  readonly sequence: number;
  readonly splitWeightGradients: boolean;
  readonly wire: "f32" | "bf16";
  /** Even out the gates of the fresh models first, as training would. */
  readonly balanced: boolean;
}

/** One row under way. */
export interface Contestant {
  readonly arch: string;
  readonly policy: string;
  readonly mode: CompareMode;
  readonly rank: Rank;
  readonly model: ModelProgram;
  plan: Plan;
  readonly costs: MeasuredCosts;
  readonly runs: MeasuredStep[];
}

export interface MeasuredStep {
  /** From when the last rank was ready until the slowest was done. */
  readonly stepMs: number;
  readonly timeline: Timeline;
}

const BALANCE_ROUNDS = 12;
const BALANCE_RATE = 0.05;

/** All ranks make the same calls in the same order. */
export class Contestants {
  readonly #ranks = new Map<string, Rank>();
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
    const { options } = this;
    const model = buildProgram(rank.config, {
      batch: options.batch,
      sequence: options.sequence,
      epSize: rank.ep.size,
      chunks: parsePolicy(policy).chunks,
      mode: mode === "forward" ? "loss" : "train",
      splitWeightGradients: options.splitWeightGradients && policy !== "sequential",
      wire: options.wire,
    });
    const program =
      mode === "train+reduce" ? withReduction(model.program, reductionBuckets(rank)) : model.program;
    const plan: Plan = {
      program,
      schedule: this.#schedule(policy, program),
      actions: actionTable(options.sequence),
      keep: new Set([model.output]),
    };
    return { arch, policy, mode, rank, model, plan, costs: new MeasuredCosts(), runs: [] };
  }

  /** One run on all ranks. */
  measure(contestant: Contestant): MeasuredStep {
    const { world } = this.context;
    contestant.rank.parameters.zeroGradients();
    const feeds = this.#feeds(contestant);
    barrier(world, "ready").wait();
    const startMs = nowMs();
    const services = { ...contestant.rank, scales: { balance: 0.01, z: 0 } };
    const run = execute(contestant.plan, services, feeds.values);
    const ownMs = nowMs() - startMs;
    run.release();
    feeds.release();
    const { events, exposed } = run;
    const timeline = gatherTimeline(world, [{ events, exposed, startMs: run.startMs }], this.#clockOffsetMs);
    return { stepMs: Math.max(...gatherJson(world, ownMs, "step times")), timeline };
  }

  /** Adds what this rank measured to its costs. */
  learn(contestant: Contestant, step: MeasuredStep): void {
    const { rank } = this.context.world;
    contestant.costs.add(step.timeline.events.filter((event) => event.rank === rank));
  }

  /** What each rank measured: one may be slower than another. */
  costsOfRanks(contestant: Contestant): CostTable[] {
    return gatherJson(this.context.world, contestant.costs.typical(), "costs");
  }

  /** Places operators on the costs measured so far. */
  replan(contestant: Contestant): void {
    if (!parsePolicy(contestant.policy).usesCosts) return;
    const { program } = contestant.plan;
    const schedule = this.#schedule(contestant.policy, program, agreedCosts(this.costsOfRanks(contestant)));
    contestant.plan = { ...contestant.plan, schedule };
  }

  #schedule(policy: string, program: Program, table?: CostTable): Schedule {
    const { world } = this.context;
    const make = (): Schedule =>
      parsePolicy(policy).schedule(program, table === undefined ? undefined : tableCosts(table));
    return broadcastJson(world, world.rank === 0 ? make() : undefined, 0, "schedule");
  }

  #rankOf(arch: string): Rank {
    let rank = this.#ranks.get(arch);
    if (rank === undefined) {
      // Fresh gates send most rows to a few experts, trained ones do not: a selection bias evens them out.
      const balance = this.options.balanced ? "bias" : "none";
      const config = resolveModel({ ...this.options.model, arch, balance });
      const { epSize } = this.options;
      rank = createRank({ config, engine: this.engine, world: this.context.world, epSize, training: true });
      rank.parameters.initialize(1, config.initializer_range);
      this.#ranks.set(arch, rank);
      if (this.options.balanced) this.#balance(arch);
    }
    return rank;
  }

  /** Moves each gate's selection bias against the load of its experts, over all ranks, until loads are about even. */
  #balance(arch: string): void {
    const { world } = this.context;
    const contestant = this.enter(arch, "sequential", "forward");
    const { model, rank } = contestant;
    if (model.routings.length === 0) return;
    const keep = new Set([...contestant.plan.keep, ...model.routings.map((route) => route.routing)]);
    for (let round = 0; round < BALANCE_ROUNDS; round++) {
      this.context.progress(`balancing the gates of ${arch}`);
      const feeds = this.#feeds(contestant);
      const run = execute(
        { ...contestant.plan, keep },
        { ...rank, scales: { balance: 0, z: 0 } },
        feeds.values,
      );
      const loads = model.routings.map((route) => [...run.read<RoutingValue>(route.routing).routing.load]);
      run.release();
      feeds.release();
      const everywhere = gatherJson(world, loads, "loads");
      model.routings.forEach(({ shape }, r) => {
        const bias = rank.parameters.buffers.get(shape.selectionBias as string)?.data;
        const load = loads[r].map((_, e) => everywhere.reduce((sum, rankLoads) => sum + rankLoads[r][e], 0));
        const mean = load.reduce((a, b) => a + b, 0) / load.length;
        const rate = BALANCE_RATE / (1 + round / 4);
        if (bias !== undefined)
          load.forEach((rows, e) => (bias[e] += rate * Math.max(-1, Math.min(1, (mean - rows) / mean))));
      });
    }
  }

  /** Random tokens; the same in every run. */
  #feeds(c: Contestant): { values: Map<number, unknown>; release: () => void } {
    const { batch, sequence } = this.options;
    const { memory, world, config } = c.rank;
    const T = batch * sequence;
    const random = philox(7 + world.rank, "benchmark tokens");
    const blocks = [memory.allocate(T), memory.allocate(T), memory.allocate(T)];
    const ints = blocks.slice(0, 2).map(({ f32 }) => new Int32Array(f32.buffer, f32.byteOffset, T));
    for (let i = 0; i < T; i++) {
      ints[0][i] = Math.floor(random.uniform(i) * config.vocab_size);
      ints[1][i] = Math.floor(random.uniform(i + T) * config.vocab_size);
    }
    blocks[2].f32.fill(1 / T);
    const values = new Map<number, unknown>([[c.model.tokens, { data: ints[0], dims: [T] }]]);
    if (c.model.labels !== undefined) values.set(c.model.labels, { data: ints[1], dims: [T] });
    if (c.model.seed !== undefined) values.set(c.model.seed, { data: blocks[2].f32, dims: [T] });
    return { values, release: () => blocks.forEach((block) => memory.release(block)) };
  }
}
