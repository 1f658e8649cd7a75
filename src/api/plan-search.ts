/**
 * The fastest layouts of a training step on a cluster: expert-parallel size × micro-batch × architecture × policy. Layouts
 * wait in the order of a time that they do not go below; whoever is first is looked at more closely, until nothing that is
 * left could be faster than those simulated.
 */
import { BOUNDS, checkBounds } from "../core/bounds.js";
import { greatestDivisor } from "../core/divisor.js";
import { InputError } from "../core/errors.js";
import { stateMemory, usableBytes } from "../run/device-memory.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Cluster } from "../simulate/clusters.js";
import { EventQueue } from "../simulate/event-queue.js";
import { type LayoutTimes, layoutTimes, stepBound } from "./layout-bound.js";
import { type LayoutStep, simulateLayout } from "./layout-step.js";
import { DEFAULT_CASES } from "./plan.js";
import { divisorsOf } from "./plan-fit.js";
import { type PlanOptions, type Question, withDefaults } from "./plan-question.js";

/** What to search, where. */
export interface SearchOptions extends Pick<
  PlanOptions,
  | "model"
  | "cluster"
  | "calibration"
  | "sequence"
  | "efficiency"
  | "linkEfficiency"
  | "elementBytes"
  | "recompute"
  | "zero"
> {
  /** Sequences per rank and optimiser step. Default 8. */
  readonly batch?: number | undefined;
  /** Default: those that a plan compares, or the model's own where it is none of them. */
  readonly archs?: readonly string[] | undefined;
  /** Default: sequential, and adaptive with as many chunks as pay; its orders are at least as good as pipelined ones. */
  readonly policies?: readonly string[] | undefined;
  /** Ranks that share one copy of the experts. Default: all that divide experts and devices. */
  readonly epSizes?: readonly number[] | undefined;
  /** How many layouts are wanted, the fastest first. Default 10. */
  readonly top?: number | undefined;
}

/** How a training step lies on a cluster. */
export interface Layout {
  readonly arch: string;
  readonly policy: string;
  readonly epSize: number;
  /** Copies of the experts. */
  readonly replicas: number;
  /** Sequences per rank in a micro-batch, and micro-batches in an optimiser step. */
  readonly microBatch: number;
  readonly microBatches: number;
}

/** A layout that fits, and its predicted optimiser step. */
export interface LayoutRow extends Layout, LayoutStep {
  readonly tokensPerSecond: number;
}

/** The fastest layouts, and how they were found. */
export interface SearchResult {
  /** The fastest first; fewer than wanted when no more fit. */
  readonly rows: readonly LayoutRow[];
  readonly cluster: Cluster;
  readonly sequence: number;
  /** Layouts in all; those found too large; those simulated. The rest is not faster than the last row, but for `TIE`. */
  readonly layouts: number;
  readonly tooLarge: number;
  readonly simulated: number;
}

const POLICIES = ["sequential", "adaptive"] as const;
/** Layouts whose bound is so near to the last row's time are as good: what is told apart is far below what is modelled. */
const TIE = 0.005;
/** Bounds and simulated times are sums in other orders. */
const ROUNDING = 1 - 1e-9;

/**
 * Searches the layouts of a training step, by predicted tokens per second. Only those are left out that the devices' memory
 * rules out, or a bound within half a percent.
 * @throws InputError on an unknown name, or when no layout fits
 */
export function searchLayouts(options: SearchOptions): SearchResult {
  checkBounds("plan --search", options, { top: BOUNDS.rows });
  const { top = 10 } = options;
  const question = withDefaults({ ...options, mode: "train" });
  const layouts = layoutsOf(question, options);
  const search = new Search(question, layouts, top);
  const rows = search.run();
  if (rows.length === 0) throw new InputError(nothingFits(question, layouts));
  const { cluster, sequence } = question;
  const { tooLarge, simulated } = search;
  return { rows, cluster, sequence, layouts: layouts.length, tooLarge, simulated };
}

function layoutsOf(question: Question, options: SearchOptions): Layout[] {
  const { batch, ranks, model, modelOf } = question;
  const usual = [...new Set<string>(DEFAULT_CASES.map(({ arch }) => arch))];
  const { archs = usual.includes(model.arch) ? usual : [model.arch], policies = POLICIES } = options;
  return archs.flatMap((arch) => {
    const { config } = modelOf(arch);
    const most = config.architecture.routed === "none" ? 1 : greatestDivisor(ranks, config.num_experts);
    const { epSizes = divisorsOf(most) } = options;
    return policies.flatMap((policy) =>
      epSizes.flatMap((epSize) => {
        // Checks the size.
        withDefaults({ ...options, mode: "train", epSize });
        return divisorsOf(batch).map((microBatch) => ({
          arch,
          policy,
          epSize,
          replicas: ranks / epSize,
          microBatch,
          microBatches: batch / microBatch,
        }));
      }),
    );
  });
}

/** A question about one micro-batch of a layout. */
function questionOf(question: Question, { epSize, microBatch }: Layout): Question {
  return { ...question, epSize, batch: microBatch };
}

class Search {
  tooLarge = 0;
  simulated = 0;
  readonly #queue = new EventQueue();
  readonly #isBounded: Uint8Array;
  /** The fastest so far, in order. */
  readonly #best: LayoutRow[] = [];
  readonly #times = new Map<string, LayoutTimes>();
  readonly #states = new Map<string, number>();
  /** By layout without its micro-batch: the smallest micro-batch that is known not to fit. */
  readonly #misfits = new Map<string, number>();
  readonly #usable: number;

  constructor(
    readonly question: Question,
    readonly layouts: readonly Layout[],
    readonly top: number,
  ) {
    const { memoryBytes } = question.cluster;
    this.#usable = memoryBytes === undefined ? Infinity : usableBytes(memoryBytes);
    this.#isBounded = new Uint8Array(layouts.length);
    const largest = new Map<string, number>();
    for (const { arch, epSize } of layouts) largest.set(arch, Math.max(largest.get(arch) ?? 1, epSize));
    layouts.forEach((layout, key) => {
      // Fewer experts on a rank and fewer chunks take no longer: their weights are read less often.
      const least = { ...layout, epSize: largest.get(layout.arch) as number };
      const { microBatch } = this.#timesOf(least, 1);
      this.#queue.add(layout.microBatches * microBatch.compute * ROUNDING, key);
    });
  }

  run(): LayoutRow[] {
    while (!this.#queue.isEmpty) {
      const { time, key } = this.#queue.next();
      if (this.#best.length === this.top && time >= this.#best[this.top - 1].stepMs * (1 - TIE)) break;
      if (this.#isBounded[key] === 0) this.#bound(this.layouts[key], key);
      else this.#simulate(this.layouts[key]);
    }
    return this.#best;
  }

  #bound(layout: Layout, key: number): void {
    if (this.#stateBytes(layout) > this.#usable) {
      this.tooLarge++;
      return;
    }
    const { name, chunks } = parsePolicy(layout.policy);
    const times = this.#timesOf(layout, chunks);
    const { microBatches } = layout;
    const ms = stepBound(times, { microBatches, isSequential: name === "sequential" });
    this.#isBounded[key] = 1;
    this.#queue.add(ms * ROUNDING, key);
  }

  #simulate(layout: Layout): void {
    const { arch, policy, epSize, microBatch, microBatches } = layout;
    const alike = `${arch} ${policy} ${epSize}`;
    const isMisfit = microBatch >= (this.#misfits.get(alike) ?? Infinity);
    const step = isMisfit
      ? undefined
      : simulateLayout(questionOf(this.question, layout), {
          arch,
          policy,
          microBatches,
          usableBytes: this.#usable,
        });
    if (step === undefined) {
      this.tooLarge++;
      this.#misfits.set(alike, Math.min(microBatch, this.#misfits.get(alike) ?? Infinity));
      return;
    }
    this.simulated++;
    const { batch, sequence, ranks } = this.question;
    const tokensPerSecond = (1e3 * batch * sequence * ranks) / step.stepMs;
    const at = this.#best.findIndex(({ stepMs }) => stepMs > step.stepMs);
    this.#best.splice(at < 0 ? this.#best.length : at, 0, { ...layout, ...step, tokensPerSecond });
    if (this.#best.length > this.top) this.#best.pop();
  }

  #timesOf(layout: Layout, chunks: number): LayoutTimes {
    const { arch, epSize, microBatch } = layout;
    return known(this.#times, `${arch} ${epSize} ${microBatch} ${chunks}`, () =>
      layoutTimes(questionOf(this.question, layout), arch, chunks),
    );
  }

  #stateBytes({ arch, epSize }: Layout): number {
    return known(this.#states, `${arch} ${epSize}`, () => stateBytes(this.question, arch, epSize));
  }
}

function known<T>(map: Map<string, T>, key: string, find: () => T): T {
  let found = map.get(key);
  if (found === undefined) map.set(key, (found = find()));
  return found;
}

function stateBytes(question: Question, arch: string, epSize: number): number {
  const { parameters } = question.modelOf(arch);
  const { weights, gradients, optimizer } = stateMemory(parameters, { ...question, epSize });
  return weights + gradients + optimizer;
}

/** The least that a rank would need for its state alone, against what there is. */
function nothingFits(question: Question, layouts: readonly Layout[]): string {
  const { cluster, zero, recompute } = question;
  const needs = layouts.map((layout) => ({
    ...layout,
    bytes: stateBytes(question, layout.arch, layout.epSize),
  }));
  const { arch, epSize, bytes } = needs.reduce((a, b) => (b.bytes < a.bytes ? b : a));
  const gb = (of: number): string => `${(of / 1e9).toFixed(1)} GB`;
  const off = [...(recompute ? [] : ["--recompute"]), ...(zero ? [] : ["--zero"])];
  const advice = ["more devices", "devices with more memory", "a smaller model", ...off].join(", ");
  return `No layout of ${layouts.length} fits ${cluster.name}: at least ${gb(bytes)} per rank (${arch}, EP ${epSize}) are weights, gradients and optimiser states, and activations come beside; ${gb(usableBytes(cluster.memoryBytes as number))} of a device can be used. Wanted: ${advice}`;
}
