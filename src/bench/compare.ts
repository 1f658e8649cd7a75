/**
 * Architectures and policies side by side in one launch: runs interleaved, medians, predicted against measured. Every
 * rank measures; a step takes as long as its slowest rank.
 */
import { barrier, broadcastJson, gatherJson } from "../comm/collectives.js";
import type { Link } from "../comm/link.js";
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
import type { JobContext } from "../run/job.js";
import { type Rank, createRank } from "../run/rank.js";
import { withReduction } from "../program/reduction.js";
import { reductionBuckets } from "../train/step.js";
import { lowerBound } from "../schedule/adaptive.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../schedule/schedule.js";
import { MeasuredCosts, median, tableCosts } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { makeTimeline } from "../simulate/summary.js";
import type { ExposedInterval, Timeline, TimelineEvent } from "../simulate/timeline.js";

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
  /** Chooses the link's rate so that communication takes this share of the sequential top-2 forward pass (threads). */
  readonly communicationShare?: number;
  readonly latencyMs: number;
  /** A rate that something else shapes (the hosts' links), for predictions; not needed with a link model. */
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
  readonly note: string;
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
    const link = options.communicationShare === undefined ? null : this.#chooseLink(options.communicationShare);
    const contestants = options.modes.flatMap((mode) =>
      options.cases.map(({ arch, policy }) => this.#contestant(arch, policy, mode)),
    );
    const total = WARM_UP_ROUNDS + options.rounds;
    for (let round = 0; round < total; round++) {
      if (round === WARM_UP_ROUNDS) for (const contestant of contestants) this.#replan(contestant);
      for (const contestant of contestants) {
        context.progress(`round ${round + 1}/${total}: ${contestant.arch} ${contestant.policy} ${contestant.mode}`);
        const { events, exposed, stepMs } = this.#measure(contestant);
        if (round < WARM_UP_ROUNDS) {
          if (round > 0) contestant.costs.add(events.filter((e) => e.rank === context.world.rank));
        } else {
          contestant.costs.add(events.filter((e) => e.rank === context.world.rank));
          contestant.runs.push({ stepMs, timeline: makeTimeline("measured", context.world.size, events, exposed) });
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

  /** Communication = share of compute + communication when nothing overlaps. */
  #chooseLink(share: number): Link {
    const { world } = this.context;
    world.setLink?.(undefined);
    const baseline = this.#contestant(BASELINE.arch, BASELINE.policy, "forward");
    let [computeMs, bytes]: [number[], number] = [[], 0];
    for (let round = 0; round < CALIBRATION_ROUNDS; round++) {
      this.context.progress(`measuring ${BASELINE.arch} to choose the link's rate`);
      const { events } = this.#measure(baseline);
      if (round === 0) continue;
      const sum = (of: (e: TimelineEvent) => number): number => events.reduce((total, e) => total + of(e), 0);
      computeMs = [...computeMs, sum((e) => (e.stream === "compute" ? e.endMs - e.startMs : 0)) / world.size];
      bytes = sum((e) => e.bytes ?? 0) / world.size;
    }
    const wantedMs = (median(computeMs) * share) / (1 - share);
    const link = { bytesPerMs: bytes / wantedMs, latencyMs: this.options.latencyMs };
    const agreed = broadcastJson(world, link, 0, "link");
    barrier(world, "before the link changes");
    if (world.rank === 0) world.setLink?.(agreed);
    barrier(world, "after the link has changed");
    return agreed;
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
      const config = resolveModel({ ...this.options.model, arch });
      const { epSize } = this.options;
      rank = createRank({ config, engine: this.engine, world: this.context.world, epSize, training: true });
      rank.parameters.initialize(1, config.initializer_range);
      this.#ranks.set(arch, rank);
    }
    return rank;
  }

  #schedule(policy: string, program: Program, table?: Readonly<Record<string, number>>): Schedule {
    const { world } = this.context;
    const made =
      world.rank === 0
        ? parsePolicy(policy).schedule(program, table === undefined ? undefined : tableCosts(table))
        : undefined;
    return broadcastJson(world, made, 0, "schedule");
  }

  #agreedCosts(contestant: Contestant): Record<string, number> {
    const tables = gatherJson(this.context.world, contestant.costs.medians(), "costs");
    return Object.fromEntries(Object.keys(tables[0]).map((key) => [key, median(tables.map((t) => t[key] ?? 0))]));
  }

  #replan(contestant: Contestant): void {
    if (!parsePolicy(contestant.policy).usesCosts) return;
    const schedule = this.#schedule(contestant.policy, contestant.plan.program, this.#agreedCosts(contestant));
    contestant.plan = { ...contestant.plan, schedule };
  }

  /** One run on all ranks; times from the moment the last rank was ready. */
  #measure(c: Contestant): { events: TimelineEvent[]; exposed: ExposedInterval[]; stepMs: number } {
    const { world } = this.context;
    c.rank.parameters.zeroGradients();
    const feeds = this.#feeds(c);
    barrier(world, "ready");
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
    const costs = tableCosts(this.#agreedCosts(c));
    const { program, schedule } = c.plan;
    const predicted = simulate(program, schedule, { costs: Array.from({ length: world.size }, () => costs) });
    const [communicationMs, exposedMs] = [of((t) => t.summary.communicationMs), of((t) => t.summary.exposedMs)];
    const sorted = [...steps].sort((a, b) => a - b);
    const quartile = (q: number): number => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
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
      note: schedule.note,
    };
    // The typical run is the picture, not the last.
    const typical = c.runs.reduce((a, b) => (Math.abs(b.stepMs - row.stepMs) < Math.abs(a.stepMs - row.stepMs) ? b : a));
    return { row, timelines: { measured: typical.timeline, predicted } };
  }
}

function withGradientReduction(rank: Rank, program: Program): Program {
  return withReduction(program, reductionBuckets(rank));
}
