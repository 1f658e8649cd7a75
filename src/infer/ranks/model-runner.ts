/** A rank's model, its cache and its sequences: does a rank's part of a step. */
import { pageBytes } from "../../core/reserved-memory.js";
import type { Tensor } from "../../core/tensor.js";
import type { ModelConfig } from "../../model/config.js";
import type { BlockCache } from "../../model/wires.js";
import { type MeasuredRun, clockOffset, gatherTimeline } from "../../run/gather-timeline.js";
import type { Services } from "../../run/context.js";
import type { Schedule } from "../../program/schedule.js";
import type { RunResult } from "../../run/execution.js";
import type { SessionOptions } from "../../run/session.js";
import { parsePolicy } from "../../schedule/policy.js";
import { simulate } from "../../simulate/simulate.js";
import { joinTimelines } from "../../timeline/summary.js";
import type { Timeline } from "../../timeline/timeline.js";
import { CachedForward, type CachedRows } from "../cached-forward.js";
import { KvCache } from "../cache/kv-cache.js";
import { type CacheLayer, budgetRows, granuleRows } from "../cache/kv-cache-size.js";
import { PhasePlacer } from "./phase-placer.js";
import { RankSequences, type Sampling } from "./rank-sequences.js";
import type { ModelRunner, RankStep } from "./rank-runner.js";
import type { Phases, RankPlan, StepTimes } from "../step-plan.js";

export interface ModelRunnerOptions {
  readonly config: ModelConfig;
  /** Ranks that share the experts. */
  readonly epSize: number;
  /** Sequences at once. */
  readonly slots: number;
  /** Rows of a sequence. */
  readonly capacity: number;
  /** Rows of a chunk of prefill. */
  readonly chunk: number;
  /** Bytes of cache that a rank may touch; undefined: what all slots need when they are full. */
  readonly cacheBytes?: number | undefined;
  readonly policy: string;
  readonly session: Pick<SessionOptions, "weights">;
  readonly sampling: Sampling;
}

/** A step on all ranks. */
export interface StepTimelines {
  readonly measured: Timeline;
  /** Once all ranks have agreed on what the step's operators cost. */
  readonly predicted?: Timeline | undefined;
}

/** Rows of the cache: [first slot, sequences]. */
type Slots = readonly [first: number, count: number];

export class CachedModelRunner implements ModelRunner {
  readonly shape: ModelRunner["shape"];
  readonly #forward: CachedForward;
  /** Of each block, which layer of the cache is its own. */
  readonly #layerOf: ReadonlyMap<BlockCache, number>;
  readonly #cache: KvCache;
  readonly #sequences: RankSequences;
  readonly #placers: Readonly<Record<keyof Phases, PhasePlacer>>;
  readonly #clockOffsetMs: number;
  /** Of the last step, for whoever asks for its timeline. */
  #last: readonly LastRun[] = [];

  constructor(
    readonly services: Services,
    readonly options: ModelRunnerOptions,
  ) {
    const { config, epSize, slots, capacity, chunk, session } = options;
    const policy = parsePolicy(options.policy);
    this.#forward = new CachedForward(services, config, {
      capacity,
      rows: { batch: 1, sequence: chunk },
      epSize,
      policy,
      session,
    });
    const { model, cache } = this.#forward;
    this.#layerOf = new Map(cache.blocks.map((block, layer) => [block, layer]));
    const layers = cache.blocks.map(({ heads, width, values }): CacheLayer => ({
      heads,
      width,
      tensors: values === undefined ? 1 : 2,
    }));
    this.#cache = new KvCache({ layers, slots, capacity, blockRows: chunk });
    const [page, full] = [pageBytes(), slots * this.#cache.capacity];
    const { cacheBytes } = options;
    this.shape = {
      slots,
      capacity,
      chunk,
      granule: granuleRows(layers, page),
      budgetRows: cacheBytes === undefined ? full : Math.min(full, budgetRows(layers, page, cacheBytes)),
    };
    this.#sequences = new RankSequences(options.sampling);
    const placer = (): PhasePlacer => new PhasePlacer(model.program, policy, services.world);
    this.#placers = { prefill: placer(), decode: placer() };
    this.#clockOffsetMs = services.world.size === 1 ? 0 : clockOffset(services.world);
  }

  run(plan: RankPlan, phases: Phases): RankStep {
    const rows = this.#sequences.begin(plan);
    this.#cache.apply(plan.cache);
    const { prefill, decode } = rows;
    const runs: Partial<Record<keyof Phases, Ran>> = {};
    if (phases.prefill)
      runs.prefill = this.#run("prefill", [prefill?.slot ?? 0, prefill === undefined ? 0 : 1], {
        tokens: prefill?.ids ?? [],
        past: prefill === undefined ? [] : [prefill.past],
        wanted: prefill === undefined ? [] : range(prefill.logitsFrom, prefill.ids.length),
      });
    if (phases.decode)
      runs.decode = this.#run("decode", [0, decode.ids.length], {
        tokens: decode.ids,
        past: decode.pasts,
        wanted: decode.isDrawn.flatMap((isDrawn, row) => (isDrawn ? [row] : [])),
      });
    const logits = (ran: Ran | undefined) => (row: number) => this.#logits(ran as Ran, row);
    const result = this.#sequences.end(plan, {
      prefill: logits(runs.prefill),
      decode: logits(runs.decode),
    });
    for (const { run } of Object.values(runs)) run.release();
    // A step that only forgets sequences has nothing to show.
    if (phases.prefill || phases.decode)
      this.#last = (Object.keys(runs) as (keyof Phases)[]).map((phase) => {
        const { run, schedule } = runs[phase] as Ran;
        const { events, exposed, startMs } = run;
        return { phase, schedule, measured: { events, exposed, startMs } };
      });
    return { result, times: timesOf(runs) };
  }

  /** The last step on all ranks, which ask together; undefined where there was none. */
  answer(): StepTimelines | undefined {
    const { world } = this.services;
    if (this.#last.length === 0) return undefined;
    const measured = gatherTimeline(
      world,
      this.#last.map((run) => run.measured),
      this.#clockOffsetMs,
    );
    return { measured, predicted: world.rank === 0 ? this.#predict() : undefined };
  }

  #predict(): Timeline | undefined {
    const { world } = this.services;
    const phases = this.#last.flatMap(({ phase, schedule }) => {
      const { costs } = this.#placers[phase];
      if (costs === undefined) return [];
      const onRanks = Array.from({ length: world.size }, () => costs);
      return [simulate(this.#forward.model.program, schedule, { costs: onRanks })];
    });
    return phases.length < this.#last.length ? undefined : joinTimelines(phases);
  }

  close(): void {
    this.#last = [];
  }

  #run(phase: keyof Phases, [first, count]: Slots, rows: CachedRows): Ran {
    const placer = this.#placers[phase];
    const { schedule } = placer;
    const run = this.#forward.run(schedule, rows, (block, which) =>
      this.#cache.view(this.#layerOf.get(block) as number, which, first, count),
    );
    placer.remember(run);
    return { run, schedule, wanted: rows.wanted };
  }

  /** Whoever chooses tokens, or says how likely they are, refuses logits that are not finite: they are not looked through twice. */
  #logits({ run, wanted }: Ran, row: number): Float32Array {
    const { data, dims } = run.read<Tensor<Float32Array>>(this.#forward.model.output);
    const at = wanted.indexOf(row);
    return data.subarray(at * dims[1], (at + 1) * dims[1]);
  }
}

interface Ran {
  readonly run: RunResult;
  readonly schedule: Schedule;
  readonly wanted: readonly number[];
}

interface LastRun {
  readonly phase: keyof Phases;
  readonly schedule: Schedule;
  readonly measured: MeasuredRun;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

function timesOf(runs: Readonly<Partial<Record<keyof Phases, Ran>>>): StepTimes {
  const ms = (ran: Ran | undefined): number => (ran === undefined ? 0 : ran.run.endMs - ran.run.startMs);
  const all = Object.values(runs).map(({ run }: Ran) => run);
  const sum = (of: (run: RunResult) => readonly { startMs: number; endMs: number }[]): number =>
    all.reduce((total, run) => of(run).reduce((t, e) => t + e.endMs - e.startMs, total), 0);
  return {
    prefillMs: ms(runs.prefill),
    decodeMs: ms(runs.decode),
    exposedMs: sum((run) => run.exposed),
    communicationMs: sum((run) => run.events.filter(({ stream }) => stream === "network")),
  };
}
