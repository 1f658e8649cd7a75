/**
 * Prefill and decode as inference runs them, on one rank and thread: how fast, how much of it within kernel sessions, and how near
 * these come to the rate at which memory is read.
 */
import { singleCommunicator } from "../comm/single.js";
import { nowMs } from "../core/clock.js";
import { InputError } from "../core/errors.js";
import { philox } from "../core/rng.js";
import { mean, median, quantile } from "../core/statistics.js";
import { CachedModelRunner } from "../infer/ranks/model-runner.js";
import { Sampler } from "../infer/sampling/sampler.js";
import { GREEDY } from "../infer/sampling/sampling-parameters.js";
import type { RankPlan } from "../infer/step-plan.js";
import type { WeightForm } from "../kernel/quantise.js";
import type { ModelConfig } from "../model/config.js";
import { type ParameterCount, countParameters } from "../model/parameters.js";
import { createInferenceRank } from "../run/inference-rank.js";
import type { WeightSource } from "../storage/weight-source.js";
import { cacheReads } from "./cache-reads.js";
import { type ReadRoof, readRoof } from "./read-roof.js";
import { type SessionMeter, type SessionReading, sessionMeter } from "./session-meter.js";

export interface DecodeOptions {
  readonly model: { readonly config: ModelConfig; readonly source: WeightSource };
  readonly form: WeightForm;
  /** Sequences at once, each number measured. */
  readonly batches: readonly number[];
  /** Tokens of a prompt, of which `chunk` are read in a step; and new ones of each sequence. */
  readonly prompt: number;
  readonly chunk: number;
  readonly tokens: number;
  readonly rounds: number;
  /** Of the plain read; default more than caches hold. */
  readonly roofBytes?: number | undefined;
}

/** Of one batch size. Medians of steps, where nothing else is said. */
export interface DecodeRow {
  readonly batch: number;
  /** Of prompts, of the median round. */
  readonly prefillTokensPerSecond: number;
  /** A step writes one token of every sequence. */
  readonly stepMs: { readonly p10: number; readonly median: number; readonly p90: number };
  /** Of all sequences together. */
  readonly tokensPerSecond: number;
  /** Of the median step: within kernel sessions, the head among them, and outside, the choice of tokens among it. */
  readonly insideMs: number;
  readonly outsideMs: number;
  readonly outsideShare: number;
  readonly samplingMs: number;
  /** Kernel sessions run by a step, and what they read: weights in the form held, of experts those that were chosen, and rows of the cache. */
  readonly sessionRuns: number;
  readonly weightBytes: number;
  readonly cacheBytes: number;
  /** GB/s (10⁹ bytes) within sessions; of a plain read of memory in the same loop; the median share of the one in the other. */
  readonly readRate: number;
  readonly roofRate: number;
  readonly shareOfRoof: number;
}

export interface DecodeResult extends Pick<DecodeOptions, "form" | "prompt" | "chunk" | "tokens" | "rounds"> {
  readonly arch: string;
  readonly parameters: ParameterCount;
  readonly rows: readonly DecodeRow[];
}

/** Steps between two readings of the roof. */
const ROOF_STEPS = 8;
const WARM_UP_TOKENS = 4;

interface Step extends SessionReading {
  readonly stepMs: number;
  readonly samplingMs: number;
  readonly cacheBytes: number;
  /** GB/s, before and after. */
  readonly roof: number;
}

interface Round {
  readonly prefillMs: number;
  readonly steps: readonly Step[];
}

/**
 * The source is read, not closed. Tokens are chosen greedily, and random ones are fed: what a random model writes soon repeats, and visits few experts.
 * @throws InputError when the model's context is shorter than prompt and new tokens
 */
export function benchDecode(options: DecodeOptions): DecodeResult {
  const { model, form, batches, prompt, chunk, tokens, rounds } = options;
  const { config } = model;
  const rows = prompt + Math.max(tokens, WARM_UP_TOKENS) + 1;
  if (rows > config.max_position_embeddings)
    throw new InputError(
      `${prompt} tokens of prompt and ${tokens} new ones need a context of ${rows}; max_position_embeddings of the model is ${config.max_position_embeddings}`,
    );
  const bench = new DecodeBench(options, rows);
  try {
    bench.warmUp();
    const measured = batches.map((batch) => ({ batch, rounds: [] as Round[] }));
    for (let round = 0; round < rounds; round++)
      for (const { batch, rounds: done } of measured) done.push(bench.round(batch, tokens));
    return {
      arch: config.arch,
      parameters: countParameters(config),
      ...{ form, prompt, chunk, tokens, rounds },
      rows: measured.map((of) => rowOf(prompt, of)),
    };
  } finally {
    bench.close();
  }
}

class DecodeBench {
  readonly #meter: SessionMeter = sessionMeter();
  readonly #roof: ReadRoof;
  readonly #runner: CachedModelRunner;
  readonly #cacheReads: (rows: number) => number;
  readonly #random = philox(1, "benchmark tokens");
  #samplingMs = 0;
  #drawn = 0;
  #sequences = 0;
  /** Those of the round before, in their slots: they end with the next step. */
  #ended: readonly number[] = [];

  constructor(
    readonly options: DecodeOptions,
    capacity: number,
  ) {
    const { model, form, batches, chunk, roofBytes } = options;
    const { config, source } = model;
    const { engine } = this.#meter;
    const rank = createInferenceRank({ config, engine, world: singleCommunicator(), source, form });
    this.#runner = new CachedModelRunner(rank, {
      ...{ config, epSize: 1, slots: Math.max(...batches), capacity, chunk: Math.min(chunk, capacity) },
      policy: "sequential",
      session: { weights: "fixed" },
      sampling: {
        createSampler: (sampling, prompt) => this.#sampler(new Sampler(sampling, prompt, config.vocab_size)),
        tokenLogprob: () => {
          throw new Error("nobody asks for log probabilities");
        },
      },
    });
    rank.weights.close();
    this.#roof = readRoof(roofBytes);
    this.#cacheReads = cacheReads(config);
  }

  /** The first runs compile, and touch memory for the first time. */
  warmUp(): void {
    const { batches, prompt, chunk } = this.options;
    for (const batch of batches) this.round(batch, WARM_UP_TOKENS, Math.min(prompt, chunk));
  }

  round(batch: number, tokens: number, prompt = this.options.prompt): Round {
    const sequences = Array.from({ length: batch }, () => this.#sequences++);
    let start = nowMs();
    sequences.forEach((sequence, slot) => this.#prefill(sequence, slot, prompt));
    const prefillMs = nowMs() - start;
    this.#ended = sequences;
    const steps: Step[] = [];
    while (steps.length < tokens) {
      const count = Math.min(ROOF_STEPS, tokens - steps.length);
      const before = this.#roof.gigabytesPerSecond();
      const few: Omit<Step, "roof">[] = [];
      for (let i = 0; i < count; i++) {
        this.#take();
        start = nowMs();
        this.#run({ decode: sequences });
        const stepMs = nowMs() - start;
        const rows = prompt + steps.length + few.length + 1;
        few.push({ stepMs, ...this.#take(), cacheBytes: batch * this.#cacheReads(rows) });
      }
      const roof = mean([before, this.#roof.gigabytesPerSecond()]);
      steps.push(...few.map((step) => ({ ...step, roof })));
    }
    return { prefillMs, steps };
  }

  close(): void {
    this.#runner.close();
    this.#meter.engine.dispose();
  }

  #take(): SessionReading & Pick<Step, "samplingMs"> {
    const samplingMs = this.#samplingMs;
    this.#samplingMs = 0;
    return { ...this.#meter.take(), samplingMs };
  }

  #prefill(sequence: number, slot: number, prompt: number): void {
    const { chunk, tokens } = this.options;
    const sampling = { ...GREEDY, maxNewTokens: Math.max(tokens, WARM_UP_TOKENS) + 1 };
    const ids = Array.from({ length: prompt }, () => this.#randomToken());
    const starts = [{ sequence, prompt: ids, sampling, written: [] }];
    for (let start = 0; start < prompt; start += chunk) {
      const end = Math.min(prompt, start + chunk);
      this.#run({ starts: start === 0 ? starts : [], prefill: { sequence, slot, start, end } });
    }
  }

  #run(plan: Partial<RankPlan>): void {
    const { prefill, decode = [] } = plan;
    const isFirst = prefill?.start === 0 && prefill.slot === 0;
    const ended = isFirst ? this.#ended : [];
    const cache = ended.map((_, slot) => ({ kind: "free", slot }) as const);
    this.#runner.run(
      { starts: [], ...plan, decode, ended, cache },
      { prefill: prefill !== undefined, decode: decode.length > 0 },
    );
  }

  #randomToken(): number {
    const { vocab_size: size } = this.options.model.config;
    return Math.floor(this.#random.uniform(this.#drawn++) * size);
  }

  #sampler(greedy: Sampler) {
    return {
      next: (logits: Float32Array) => {
        const start = nowMs();
        greedy.next(logits);
        this.#samplingMs += nowMs() - start;
        return { id: this.#randomToken() };
      },
      accept: (id: number) => greedy.accept(id),
    };
  }
}

function rowOf(
  prompt: number,
  { batch, rounds }: { readonly batch: number; readonly rounds: readonly Round[] },
): DecodeRow {
  const steps = rounds.flatMap((round) => round.steps);
  const of = (what: (step: Step) => number): number[] => steps.map(what);
  const typical = (what: (step: Step) => number): number => median(of(what));
  const rate = ({ weightBytes, cacheBytes, ms }: Step): number => (weightBytes + cacheBytes) / 1e6 / ms;
  const all = of(({ stepMs }) => stepMs);
  const stepMs = { p10: quantile(all, 0.1), median: median(all), p90: quantile(all, 0.9) };
  const outsideShare = typical((step) => 1 - step.ms / step.stepMs);
  const outsideMs = stepMs.median * outsideShare;
  return {
    batch,
    prefillTokensPerSecond: (batch * prompt * 1e3) / median(rounds.map(({ prefillMs }) => prefillMs)),
    stepMs,
    tokensPerSecond: (batch * 1e3) / stepMs.median,
    insideMs: stepMs.median - outsideMs,
    outsideMs,
    outsideShare,
    samplingMs: typical((step) => step.samplingMs),
    sessionRuns: typical((step) => step.runs),
    weightBytes: typical((step) => step.weightBytes),
    cacheBytes: typical((step) => step.cacheBytes),
    readRate: typical(rate),
    roofRate: typical(({ roof }) => roof),
    shareOfRoof: typical((step) => rate(step) / step.roof),
  };
}
