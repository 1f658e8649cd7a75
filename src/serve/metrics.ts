/** Figures for Prometheus, under vLLM's names. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineFigures, InferenceEngine } from "../infer/engine.js";

export interface Metrics {
  /** The text that Prometheus reads. */
  text(): Promise<string>;
  readonly contentType: string;
  firstToken(seconds: number): void;
  nextToken(seconds: number): void;
  /** A sequence has ended; "abort": cancelled, or failed. */
  ended(reason: "stop" | "length" | "abort", seconds: number): void;
  answered(handler: string, status: number): void;
  /** Of the sequences that ended of late, the newest counting most; 0 before the first. */
  readonly meanSeconds: number;
}

/** A moment's figures of the engine, and its totals. */
const GAUGES: readonly (readonly [name: string, help: string, of: (figures: EngineFigures) => number])[] = [
  ["num_requests_running", "Sequences that are being read or written", (f) => f.running],
  ["num_requests_waiting", "Sequences that wait for their turn", (f) => f.waiting],
  ["kv_cache_usage_perc", "Share of the cache's budget that is in use, from 0 to 1", (f) => f.cacheUse],
];
const COUNTERS: typeof GAUGES = [
  ["prompt_tokens_total", "Tokens of prompts that have been read", (f) => f.promptTokens],
  ["generation_tokens_total", "Tokens that have been written", (f) => f.newTokens],
  [
    "prefix_cache_queries_total",
    "Tokens of prompts looked for among kept prefixes",
    (f) => f.prefixQueriedTokens,
  ],
  ["prefix_cache_hits_total", "Tokens of prompts found there", (f) => f.prefixHitTokens],
  ["num_preemptions_total", "Sequences set aside because the cache's budget was spent", (f) => f.preemptions],
];

const FIRST_TOKEN = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160]; // prettier-ignore
const NEXT_TOKEN = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5,
];
const WHOLE = [0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960];
/** How much the newest latency counts. */
const WEIGHT = 0.1;

export function createMetrics(model: string, engine: Pick<InferenceEngine, "figures">): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const labels = { model_name: model };
  const labelNames = ["model_name"] as const;
  for (const [name, help, of] of GAUGES)
    new Gauge({
      name: `vllm:${name}`,
      help,
      labelNames,
      registers,
      collect() {
        this.set(labels, of(engine.figures()));
      },
    });
  for (const [name, help, of] of COUNTERS)
    new Counter({
      name: `vllm:${name}`,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        this.inc(labels, of(engine.figures()));
      },
    });
  const histogram = (name: string, help: string, buckets: readonly number[]) =>
    new Histogram({ name: `vllm:${name}`, help, labelNames, buckets: [...buckets], registers });
  const first = histogram("time_to_first_token_seconds", "From a request's arrival to a sequence's first token", FIRST_TOKEN); // prettier-ignore
  const next = histogram("inter_token_latency_seconds", "From a token of a sequence to the next", NEXT_TOKEN);
  // The older name of the same.
  const perToken = histogram("time_per_output_token_seconds", "As inter_token_latency_seconds", NEXT_TOKEN);
  const latency = histogram("e2e_request_latency_seconds", "From a request's arrival to a sequence's end", WHOLE); // prettier-ignore
  const success = new Counter({
    name: "vllm:request_success_total",
    help: "Sequences that have ended, by why",
    labelNames: ["model_name", "finished_reason"],
    registers,
  });
  for (const finished_reason of ["stop", "length", "abort"]) success.inc({ ...labels, finished_reason }, 0);
  const answers = new Counter({
    name: "http_requests_total",
    help: "Answers, by route and status",
    labelNames: ["handler", "status"],
    registers,
  });
  let meanSeconds = 0;
  return {
    text: () => registry.metrics(),
    contentType: registry.contentType,
    firstToken: (seconds) => first.observe(labels, seconds),
    nextToken(seconds) {
      next.observe(labels, seconds);
      perToken.observe(labels, seconds);
    },
    ended(finished_reason, seconds) {
      success.inc({ ...labels, finished_reason });
      if (finished_reason === "abort") return;
      latency.observe(labels, seconds);
      meanSeconds = meanSeconds === 0 ? seconds : meanSeconds + WEIGHT * (seconds - meanSeconds);
    },
    answered: (handler, status) => answers.inc({ handler, status: String(status) }),
    get meanSeconds() {
      return meanSeconds;
    },
  };
}
