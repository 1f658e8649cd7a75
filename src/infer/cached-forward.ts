/**
 * A model's forward pass over rows that join a cache: the chunk of a prompt, or one row of each of many sequences. One session serves
 * both; with experts on several ranks, all ranks run together, those without rows with none.
 */
import type { Tensor } from "../core/tensor.js";
import type { ModelConfig } from "../model/config.js";
import { type CacheInputs, type ModelProgram, buildProgram } from "../model/language-model.js";
import { type FusedModel, fuseModel } from "../model/fuse-model.js";
import type { BlockCache } from "../model/wires.js";
import type { Schedule } from "../program/schedule.js";
import type { Services } from "../run/context.js";
import type { RunResult } from "../run/execution.js";
import { type Policy, parsePolicy } from "../schedule/policy.js";
import { Session, type SessionOptions } from "../run/session.js";

/** Rows of B sequences whose caches lie one after another, S of each; S or B is 1. */
export interface CachedRows {
  /** [B·S] */
  readonly tokens: readonly number[];
  /** Rows that each sequence has in the cache, [B]. */
  readonly past: readonly number[];
  /** Which of the rows logits are wanted of, ascending. */
  readonly wanted: readonly number[];
}

/** The caches of the rows' sequences: [B, heads, C, width] of a block. */
export type CacheViews = (block: BlockCache, which: "keys" | "values") => Tensor<Float32Array>;

/** Of the program. */
export interface CachedModelOptions {
  /** Rows of a sequence that a cache holds. */
  readonly capacity: number;
  /** Most rows of a run, for estimates. */
  readonly rows: { readonly batch: number; readonly sequence: number };
  readonly epSize: number;
  /** What runs will be scheduled by: kernels are fused where its order lets them, and rows travel in its chunks. Default: sequential. */
  readonly policy?: Policy | undefined;
  /** All ranks, for estimates of traffic. Default: `epSize`. */
  readonly ranks?: number | undefined;
}

export interface CachedForwardOptions extends CachedModelOptions {
  readonly session?: Pick<SessionOptions, "weights"> | undefined;
}

/** Numbers that a feed has room for from the start. */
const MOST_FED = 256;

/** The program of a `CachedForward`. */
export function cachedModel(config: ModelConfig, options: CachedModelOptions): FusedModel {
  const { capacity, rows, epSize, ranks = epSize, policy = parsePolicy("sequential") } = options;
  // A token must not be dropped because of its neighbours: at inference every expert takes all rows it is sent.
  const dropless: ModelConfig = { ...config, capacity_factor: null };
  const { chunks } = policy;
  const of = { ...rows, epSize, chunks, ranks, head: "logits", cache: capacity } as const;
  const model = buildProgram(dropless, of);
  // On one rank nothing travels, and any order will do: the one with the fewest kernels.
  return fuseModel(model, epSize === 1 ? {} : { schedule: policy.schedule(model.program) });
}

export class CachedForward {
  readonly model: ModelProgram;
  readonly cache: CacheInputs;
  readonly session: Session;
  /** What the session's states hold: pointed at the sequences' caches before each run. */
  readonly #states = new Map<number, { data: Float32Array; dims: readonly number[] }>();

  readonly #feeds = new Map<number, Int32Array>();

  constructor(services: Services, config: ModelConfig, options: CachedForwardOptions) {
    this.model = cachedModel(config, options);
    this.cache = this.model.cache as CacheInputs;
    for (const { keys, values } of this.cache.blocks)
      for (const state of [keys, values])
        if (state !== undefined) this.#states.set(state, { data: new Float32Array(), dims: [] });
    this.session = new Session(services, this.model.program, {
      ...options.session,
      keep: [this.model.output],
      state: this.#states,
    });
  }

  /**
   * @returns the run, whose value `model.output` holds the logits of the wanted rows, [L, V], until it is released; the rows' keys and
   *   values are in the cache
   */
  run(schedule: Schedule, { tokens, past, wanted }: CachedRows, views: CacheViews): RunResult {
    const batch = past.length;
    const S = batch === 0 ? 0 : tokens.length / batch;
    const positions = past.flatMap((first) => Array.from({ length: S }, (_, i) => first + i));
    for (const block of this.cache.blocks)
      for (const which of ["keys", "values"] as const) {
        const state = block[which];
        if (state !== undefined) Object.assign(this.#states.get(state) as object, views(block, which));
      }
    const { model, cache } = this;
    const feeds = new Map<number, unknown>();
    const feed = (value: number, data: readonly number[], dims: readonly number[]): void => {
      feeds.set(value, { data: this.#fed(value, data), dims } satisfies Tensor);
    };
    feed(model.tokens, tokens, [tokens.length]);
    feed(model.positions as number, positions, [batch, 1, S]);
    feed(
      cache.last,
      past.map((first) => first + S - 1),
      [batch],
    );
    feed(cache.total, [past.reduce((most, first) => Math.max(most, first + S), 0)], [1]);
    feed(cache.wanted, wanted, [wanted.length]);
    return this.session.run(schedule, feeds);
  }

  /** In the same memory each time: the engine then knows the tensor. */
  #fed(value: number, data: readonly number[]): Int32Array {
    let whole = this.#feeds.get(value);
    if (whole === undefined || whole.length < data.length)
      this.#feeds.set(value, (whole = new Int32Array(Math.max(MOST_FED, data.length))));
    whole.set(data);
    return whole.subarray(0, data.length);
  }
}
