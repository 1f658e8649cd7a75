/**
 * Architectures and policies side by side in one launch: runs interleaved, medians, predicted against measured. Every
 * rank measures; a step takes as long as its slowest rank.
 */
import { barrier, broadcastJson, gatherJson } from "../comm/collectives.js";
import type { Link } from "../comm/link.js";
import { InputError } from "../core/errors.js";
import { nowMs } from "../core/clock.js";
import { philox } from "../core/rng.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import type { Engine } from "../engine/engine.js";
import { type ModelInput, resolveModel } from "../model/config.js";
import { buildProgram } from "../model/wiring.js";
import type { ModelProgram } from "../model/wiring.js";
import type { Program } from "../program/program.js";
import { actionTable } from "../run/actions/index.js";
import { type Plan, type RunResult, execute } from "../run/executor.js";
import type { RoutingValue } from "../run/actions/gate.js";
import type { JobContext } from "../run/job.js";
import { type Rank, createRank } from "../run/rank.js";
import { withReduction } from "../program/reduction.js";
import { reductionBuckets } from "../train/step.js";
import { lowerBound } from "../schedule/bound.js";
import { whyExposed } from "../schedule/diagnose.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../schedule/schedule.js";
import { type CostTable, MeasuredCosts, agreedCosts, median, tableCosts } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { makeTimeline, summarize } from "../simulate/summary.js";
import type { ExposedInterval, Timeline, TimelineEvent, TimelineSummary } from "../simulate/timeline.js";

export type CompareMode = "forward" | "train" | "train+reduce";

export interface CompareOptions {
  /** Model without `arch`. */
  readonly model: Omit<ModelInput, "arch">;
  readonly cases: readonly { readonly arch: string; readonly policy: string }[];
  readonly modes: readonly CompareMode[];
  readonly epSize?: number;
  /** Sequences per rank and tokens per sequence. */
  readonly batch: number;
  readonly sequence: number;
  readonly rounds: number;
  readonly splitWeightGradients: boolean;
  readonly wire: "f32" | "bf16";
  /** Even out the gates of the fresh models first, as training would. */
  readonly balanced: boolean;
  /** Chooses the link's rate so that communication takes this share of sequential top-2 in this mode (threads). */
  readonly communicationShare?: number;
  readonly shareMode: CompareMode;
  readonly latencyMs: number;
}

export interface CompareRow {
  readonly arch: string;
  readonly policy: string;
  readonly mode: CompareMode;
  /** Medians over rounds, and half the range between quartiles. */
  readonly stepMs: number;
  readonly spreadMs: number;
  readonly computeMs: number;
  readonly communicationMs: number;
  readonly exposedMs: number;
  readonly overlapShare: number;
  readonly predictedMs: number;
  readonly lowerBoundMs: number;
  /** Agreed medians per class of operator. */
  readonly costs: CostTable;
  readonly note: string;
  /** Why communication stayed exposed although an overlap was asked for. */
  readonly warning?: string;
}

export interface CompareResult {
  readonly link: Link | null;
  readonly ranks: number;
  readonly rows: readonly CompareRow[];
  /** The last round of each row, all ranks, and what the simulator expected. */
  readonly timelines: readonly { readonly measured: Timeline; readonly predicted: Timeline }[];
}

const CALIBRATION_ROUNDS = 4;
const WARM_UP_ROUNDS = 3;
const BALANCE_ROUNDS = 12;
const BALANCE_RATE = 0.05;
const BASELINE = { arch: "top2", policy: "sequential" } as const;

export function compareJob(context: JobContext, options: CompareOptions): CompareResult {
  const engine = createOrtEngine();
  try {
    return new Comparison(context, options, engine).run();
  } finally {
    engine.dispose();
  }
}

/** One row under way. */
interface Contestant {
  readonly arch: string;
  readonly policy: string;
  readonly mode: CompareMode;
  readonly rank: Rank;
  readonly model: ModelProgram;
  plan: Plan;
  readonly costs: MeasuredCosts;
  readonly runs: { stepMs: number; timeline: Timeline }[];
}

class Comparison {
  readonly #ranks = new Map<string, Rank>();

  constructor(
    readonly context: JobContext,
    readonly options: CompareOptions,
    readonly engine: Engine,
  ) {}

  run(): CompareResult {
    const { options, context } = this;
    const link =
      options.communicationShare === undefined ? null : this.#chooseLink(options.communicationShare);
    const contestants = options.modes.flatMap((mode) =>
      options.cases.map(({ arch, policy }) => this.#contestant(arch, policy, mode)),
    );
    const total = WARM_UP_ROUNDS + options.rounds;
    for (let round = 0; round < total; round++) {
      if (round === WARM_UP_ROUNDS) for (const contestant of contestants) this.#replan(contestant);
      for (const contestant of contestants) {
        context.progress(
          `round ${round + 1}/${total}: ${contestant.arch} ${contestant.policy} ${contestant.mode}`,
        );
        const { events, exposed, stepMs } = this.#measure(contestant);
        if (round < WARM_UP_ROUNDS) {
          if (round > 0) contestant.costs.add(events.filter((e) => e.rank === context.world.rank));
        } else {
          contestant.costs.add(events.filter((e) => e.rank === context.world.rank));
          contestant.runs.push({
            stepMs,
            timeline: makeTimeline("measured", context.world.size, events, exposed),
          });
        }
      }
    }
    const finished = contestants.map((contestant) => this.#row(contestant));
    return {
      link,
      ranks: context.world.size,
      rows: finished.map((f) => f.row),
      timelines: finished.map((f) => f.timelines),
    };
  }

  /** Communication = share of compute + communication when nothing overlaps: estimated from bytes, then measured and set right. */
  #chooseLink(share: number): Link {
    const { world } = this.context;
    this.#setLink(undefined);
    const baseline = this.#contestant(BASELINE.arch, BASELINE.policy, this.options.shareMode);
    const measure = (rounds: number): { computeMs: number; communicationMs: number; bytes: number } => {
      const timelines: TimelineSummary[] = [];
      let bytes = 0;
      for (let round = 0; round < rounds; round++) {
        this.context.progress(`measuring ${BASELINE.arch} to choose the link's rate`);
        const { events, exposed, stepMs } = this.#measure(baseline);
        timelines.push(summarize(events, exposed, world.size, stepMs));
        bytes = events.reduce((total, e) => total + (e.bytes ?? 0), 0) / world.size;
      }
      return {
        computeMs: median(timelines.map((t) => t.computeMs)),
        communicationMs: median(timelines.map((t) => t.communicationMs)),
        bytes,
      };
    };
    measure(CALIBRATION_ROUNDS);
    const free = measure(CALIBRATION_ROUNDS);
    let bytesPerMs = free.bytes / ((free.computeMs * share) / (1 - share));
    let link: Link = { bytesPerMs, latencyMs: this.options.latencyMs };
    for (let attempt = 0; attempt < 2; attempt++) {
      link = broadcastJson(world, { bytesPerMs, latencyMs: this.options.latencyMs }, 0, "link");
      this.#setLink(link);
      const { computeMs, communicationMs } = measure(CALIBRATION_ROUNDS);
      bytesPerMs *= communicationMs / ((computeMs * share) / (1 - share));
    }
    return link;
  }

  #setLink(link: Link | undefined): void {
    const { world } = this.context;
    if (world.setLink === undefined)
      throw new InputError(
        "--communication-share needs ranks as threads; between hosts the network has the rate it has",
      );
    barrier(world, "before the link changes").wait();
    if (world.rank === 0) world.setLink(link);
    barrier(world, "after the link has changed").wait();
  }

  #contestant(arch: string, policy: string, mode: CompareMode): Contestant {
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
    const program = mode === "train+reduce" ? withGradientReduction(rank, model.program) : model.program;
    const plan: Plan = {
      program,
      schedule: this.#schedule(policy, program),
      actions: actionTable(options.sequence),
      keep: new Set([model.output]),
    };
    return { arch, policy, mode, rank, model, plan, costs: new MeasuredCosts(), runs: [] };
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
    const contestant = this.#contestant(arch, "sequential", "forward");
    const { model, rank } = contestant;
    for (let round = 0; round < BALANCE_ROUNDS; round++) {
      this.context.progress(`balancing the gates of ${arch}`);
      const feeds = this.#feeds(contestant);
      const keep = new Set([...contestant.plan.keep, ...model.routings.map((route) => route.routing)]);
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

  #schedule(policy: string, program: Program, table?: CostTable): Schedule {
    const { world } = this.context;
    const made =
      world.rank === 0
        ? parsePolicy(policy).schedule(program, table === undefined ? undefined : tableCosts(table))
        : undefined;
    return broadcastJson(world, made, 0, "schedule");
  }

  #agreedCosts(contestant: Contestant): CostTable {
    return agreedCosts(gatherJson(this.context.world, contestant.costs.medians(), "costs"));
  }

  #replan(contestant: Contestant): void {
    if (!parsePolicy(contestant.policy).usesCosts) return;
    const schedule = this.#schedule(
      contestant.policy,
      contestant.plan.program,
      this.#agreedCosts(contestant),
    );
    contestant.plan = { ...contestant.plan, schedule };
  }

  /** One run on all ranks; times from the moment the last rank was ready. */
  #measure(c: Contestant): { events: TimelineEvent[]; exposed: ExposedInterval[]; stepMs: number } {
    const { world } = this.context;
    c.rank.parameters.zeroGradients();
    const feeds = this.#feeds(c);
    barrier(world, "ready").wait();
    const startMs = nowMs();
    const run: RunResult = execute(c.plan, { ...c.rank, scales: { balance: 0.01, z: 0 } }, feeds.values);
    const ownMs = nowMs() - startMs;
    run.release();
    feeds.release();
    const shift = run.startMs - startMs;
    const mine = {
      ownMs,
      events: run.events.map((e) => ({ ...e, startMs: e.startMs + shift, endMs: e.endMs + shift })),
      exposed: run.exposed.map((e) => ({ ...e, startMs: e.startMs + shift, endMs: e.endMs + shift })),
    };
    const all = gatherJson(world, mine, "timeline");
    return {
      events: all.flatMap((a) => a.events),
      exposed: all.flatMap((a) => a.exposed),
      stepMs: Math.max(...all.map((a) => a.ownMs)),
    };
  }

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

  #row(c: Contestant): { row: CompareRow; timelines: CompareResult["timelines"][number] } {
    const { world } = this.context;
    const steps = c.runs.map((run) => run.stepMs);
    const of = (figure: (t: Timeline) => number): number => median(c.runs.map((run) => figure(run.timeline)));
    const table = this.#agreedCosts(c);
    const costs = tableCosts(table);
    const { program, schedule } = c.plan;
    const predicted = simulate(program, schedule, { costs: Array.from({ length: world.size }, () => costs) });
    const [communicationMs, exposedMs] = [
      of((t) => t.summary.communicationMs),
      of((t) => t.summary.exposedMs),
    ];
    const sorted = [...steps].sort((a, b) => a - b);
    const quartile = (q: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
    const row: CompareRow = {
      arch: c.arch,
      policy: c.policy,
      mode: c.mode,
      stepMs: median(steps),
      spreadMs: (quartile(0.75) - quartile(0.25)) / 2,
      computeMs: of((t) => t.summary.computeMs),
      communicationMs,
      exposedMs,
      overlapShare: communicationMs === 0 ? 1 : Math.max(0, 1 - exposedMs / communicationMs),
      predictedMs: predicted.summary.stepMs,
      lowerBoundMs: lowerBound(program, costs),
      costs: table,
      note: schedule.note,
    };
    // The typical run is the picture, not the last.
    const typical = c.runs.reduce((a, b) =>
      Math.abs(b.stepMs - row.stepMs) < Math.abs(a.stepMs - row.stepMs) ? b : a,
    );
    const warning = whyExposed({ program, schedule, measured: typical.timeline, predicted })?.message;
    return { row: { ...row, warning }, timelines: { measured: typical.timeline, predicted } };
  }
}

function withGradientReduction(rank: Rank, program: Program): Program {
  return withReduction(program, reductionBuckets(rank));
}
