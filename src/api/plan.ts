/** What a cluster would see: predicted step time of architectures × policies. */
import { BOUNDS, checkBounds, defaultSequence } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { mean } from "../core/statistics.js";
import { type ModelConfig, type ModelInput, resolveModel } from "../model/config.js";
import { bucketsOf } from "../model/buckets.js";
import { buildProgram } from "../model/language-model.js";
import { listParameters } from "../model/parameters.js";
import { preset } from "../model/presets.js";
import { buildTrainingProgram } from "../model/training-program.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { type ReductionBucket, withReduction } from "../program/reduction.js";
import { roleOf } from "../program/work.js";
import { lowerBound } from "../schedule/bound.js";
import { describePlacement } from "../schedule/placement.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../program/schedule.js";
import { type Cluster, cluster } from "../simulate/clusters.js";
import type { Costs } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { combined } from "../timeline/summary.js";
import type { Timeline, TimelineSummary } from "../timeline/timeline.js";
import { analyticCosts } from "../simulate/analytic.js";
import type { Calibration } from "../simulate/calibration.js";
import { clusterNetwork, unevenLoads } from "../simulate/cluster-network.js";

/** Architecture and policy pairs that are compared where none are named: the first is the baseline. */
export const DEFAULT_CASES = [
  { arch: "top2", policy: "sequential" },
  { arch: "top2", policy: "pipelined(2)" },
  { arch: "shared", policy: "sequential" },
  ...[1, 2, 3].map((position) => ({ arch: `scmoe-pos${position}`, policy: "adaptive" })),
  { arch: "farskip", policy: "adaptive" },
] as const;

/** What to predict, where. */
export interface PlanOptions {
  /** A preset's name, or a model; its `arch` is replaced by that of each case, and with it k and the coefficient gate. */
  readonly model: string | ModelInput;
  /** A cluster's name, or its description. Default 8xA800-NVLink; with a calibration the machine calibrated. */
  readonly cluster?: string | Cluster | undefined;
  /** Measured rates in place of the cluster's stated ones. */
  readonly calibration?: Calibration | undefined;
  /** One row each; speed-up is over the first. */
  readonly cases?: readonly { readonly arch: string; readonly policy: string }[] | undefined;
  /** Sequences per rank. Default 8. */
  readonly batch?: number | undefined;
  /** Tokens per sequence. Default: the model's longest. */
  readonly sequence?: number | undefined;
  /** Ranks that share one copy of the experts. Default: as many as divide both experts and devices. */
  readonly epSize?: number | undefined;
  /** Forward and backward (the default), or the loss only. */
  readonly mode?: "train" | "forward" | undefined;
  /** Largest over mean load of a rank's experts, at least 1 (balanced, the default). */
  readonly imbalance?: number | undefined;
  /** Steps to average over when experts are uneven. Default 8. */
  readonly steps?: number | undefined;
  /** Achieved shares of the device's matrix rate and of the links' rates, from 0 to 1. Default: the cluster's. */
  readonly efficiency?: number | undefined;
  readonly linkEfficiency?: number | undefined;
  /** Bytes of an activation or weight element. Default 2; with a calibration, 4. */
  readonly elementBytes?: 2 | 4 | undefined;
}

/** The predicted step of an architecture under a policy; times in ms, means over ranks. */
export interface PlanRow extends TimelineSummary {
  readonly arch: string;
  /** With the number of chunks that was chosen, when the choice was free. */
  readonly policy: string;
  /** Training: the step (a micro-batch) with the reduction of all gradients, which comes once per optimiser step. */
  readonly reducedMs?: number;
  readonly lowerBoundMs: number;
  readonly speedUp: number;
  readonly placement: string;
  readonly note: string;
  readonly timeline: Timeline;
}

const MOST_DEVICES = BOUNDS.devices.to;
/** Chunk counts that a plain "adaptive" may choose among: a plan costs nothing but time to think. */
const CHUNK_CHOICES = [1, 2, 4] as const;
/** More chunks must pay: the cost model knows their latency, but not what small matrices lose. */
const CHUNKS_MUST_GAIN = 0.02;

/** Predicted steps, and what they were predicted for. */
export interface Prediction {
  /** In the order asked for. */
  readonly rows: readonly PlanRow[];
  /** With calibrated rates and the shares asked for. */
  readonly cluster: Cluster;
  readonly epSize: number;
}

/**
 * Predicts the step of each architecture under its policy: costs from sizes and the cluster's rates, ordered by the
 * policy, run by the simulator.
 * @throws InputError on an unknown name, or when the model does not fit the cluster
 */
export function plan(options: PlanOptions): Prediction {
  const question = withDefaults(options);
  const rows: PlanRow[] = [];
  for (const { arch, policy } of options.cases ?? DEFAULT_CASES) {
    const names =
      policy === "adaptive" ? CHUNK_CHOICES.map((n) => (n === 1 ? policy : `adaptive(${n})`)) : [policy];
    const found = names.map((name) => predict(question, arch, name));
    const best = found.reduce((a, b) => (b.stepMs < a.stepMs * (1 - CHUNKS_MUST_GAIN) ? b : a));
    rows.push({ ...best, speedUp: (rows[0]?.stepMs ?? best.stepMs) / best.stepMs });
  }
  return { rows, cluster: question.cluster, epSize: question.epSize };
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

type Question = ReturnType<typeof withDefaults>;

function withDefaults(options: PlanOptions) {
  checkBounds("plan", options, {
    batch: BOUNDS.batch,
    sequence: BOUNDS.sequence,
    epSize: BOUNDS.epSize,
    imbalance: BOUNDS.imbalance,
    steps: BOUNDS.simulatedSteps,
    efficiency: BOUNDS.efficiency,
    linkEfficiency: BOUNDS.efficiency,
  });
  const { calibration, batch = 8, steps = 8, imbalance = 1, mode = "train" } = options;
  const model = typeof options.model === "string" ? preset(options.model) : options.model;
  const { sequence = defaultSequence(model.max_position_embeddings) } = options;
  // Calibrated rates are of f32.
  const { elementBytes = calibration === undefined ? 2 : 4 } = options;
  const described = describe(options);
  const ranks = described.devicesPerNode * described.nodes;
  const epSize = options.epSize ?? commonDivisor(ranks, model.num_experts ?? 8);
  if (ranks > MOST_DEVICES)
    throw new InputError(
      `${described.name} has ${described.nodes} nodes × ${described.devicesPerNode} devices; at most ${MOST_DEVICES} devices can be simulated`,
    );
  if (ranks % epSize !== 0)
    throw new InputError(
      `Expert-parallel size ${epSize} does not divide the ${ranks} devices of ${described.name}`,
    );
  if (imbalance > epSize)
    throw new InputError(
      `imbalance is ${imbalance}; the busiest of ${epSize} ranks has at most all rows, ${epSize} × the mean`,
    );
  return {
    batch,
    sequence,
    epSize,
    ranks,
    model,
    cluster: described,
    calibration,
    mode,
    imbalance,
    steps,
    elementBytes,
  };
}

/** The cluster asked for, with calibrated links; a calibration alone describes ranks that are nodes of their own. */
function describe({ cluster: asked, calibration, efficiency, linkEfficiency }: PlanOptions): Cluster {
  const usual = cluster("8xA800-NVLink");
  const alone = calibration && {
    ...usual,
    name: `${calibration.ranks} calibrated ranks`,
    nodes: calibration.ranks,
    devicesPerNode: 1,
  };
  const base = typeof asked === "string" ? cluster(asked) : (asked ?? alone ?? usual);
  const link = calibration?.link;
  const measured = link && {
    intraBytesPerMs: link.bytes_per_ms,
    interBytesPerMs: link.bytes_per_ms,
    uplinkBytesPerMs: undefined,
    latencyMs: link.latency_ms,
    linkEfficiency: 1,
  };
  checkBounds(`cluster ${base.name}`, base, {
    devicesPerNode: BOUNDS.devices,
    nodes: BOUNDS.devices,
    flopsPerMs: BOUNDS.rate,
    memoryBytesPerMs: BOUNDS.rate,
    intraBytesPerMs: BOUNDS.rate,
    interBytesPerMs: BOUNDS.rate,
    uplinkBytesPerMs: BOUNDS.rate,
    latencyMs: BOUNDS.latencyMs,
    computeEfficiency: BOUNDS.efficiency,
    linkEfficiency: BOUNDS.efficiency,
  });
  return {
    ...base,
    ...measured,
    computeEfficiency: efficiency ?? base.computeEfficiency,
    ...(linkEfficiency === undefined ? {} : { linkEfficiency }),
  };
}

function predict(question: Question, arch: string, policyName: string): PlanRow {
  const { coefficient_gate: _gate, num_experts_per_tok: _k, ...model } = question.model;
  // The model as it is, or another architecture of its sizes.
  const isOwn = arch === question.model.arch;
  const { batch, sequence, epSize, ranks, mode, elementBytes, calibration, imbalance } = question;
  const config = resolveModel(isOwn ? question.model : { ...model, arch });
  if (config.architecture.routed !== "none" && config.num_experts % epSize !== 0)
    throw new InputError(
      `The expert-parallel size ${epSize} does not divide the ${config.num_experts} experts of ${arch}; every rank has equally many`,
    );
  const policy = parsePolicy(policyName);
  const shape = {
    batch,
    sequence,
    epSize,
    ranks,
    chunks: policy.chunks,
    wire: elementBytes === 2 ? ("bf16" as const) : ("f32" as const),
  };
  const { program } =
    mode === "train"
      ? buildTrainingProgram(config, shape)
      : buildProgram(config, { ...shape, head: "losses" });
  const costs = analyticCosts({ cluster: question.cluster, calibration, elementBytes, ranks });
  const schedule = policy.schedule(program, costs);
  const steps = Array.from({ length: imbalance > 1 ? question.steps : 1 }, (_, step) =>
    simulateStep(program, schedule, { ...question, costs, step }),
  );
  const reducing = mode === "train" ? withReduction(program, reductionBuckets(config, question)) : undefined;
  // The simulated links carry on during a message's latency; the bound must allow for that.
  const withoutLatency: Costs = (op) =>
    Math.max(0, costs(op) - (op.stream === "network" ? question.cluster.latencyMs : 0));
  return {
    arch,
    policy: policyName,
    ...combined(
      steps.map(({ summary }) => summary),
      mean,
    ),
    reducedMs:
      reducing &&
      simulateStep(reducing, policy.schedule(reducing, costs), { ...question, costs, step: 0 }).summary
        .stepMs,
    lowerBoundMs: lowerBound(program, withoutLatency),
    speedUp: 1,
    placement: describePlacement(program, schedule),
    note: schedule.note,
    timeline: steps[0],
  };
}

/** A rank's gradients in the buckets that training would have. */
function reductionBuckets(config: ModelConfig, { ranks, epSize, elementBytes }: Question): ReductionBucket[] {
  return bucketsOf(listParameters(config), { epRank: 0, epSize }).map(({ name, kind, infos, size }) => ({
    name,
    families: infos.map(({ family }) => family),
    bytes: size * elementBytes,
    group: kind === "replicated" ? "world" : "replicas",
    ranks: kind === "replicated" ? ranks : ranks / epSize,
    gather: true,
  }));
}

/** One group of ranks that share the experts stands for all. */
function simulateStep(
  program: Program,
  schedule: Schedule,
  at: Question & { readonly costs: Costs; readonly step: number },
): Timeline {
  const { epSize, costs, imbalance } = at;
  const loadOf = unevenLoads(epSize, imbalance, { seed: 0, step: at.step });
  const network = clusterNetwork(at, at.cluster, loadOf);
  const ofRank =
    (rank: number): Costs =>
    (op: Operator) =>
      costs(op) * (roleOf(op) === "expert" ? loadOf(op.layer ?? 0)[rank] : 1);
  const ofRanks = Array.from({ length: epSize }, (_, rank) => (imbalance > 1 ? ofRank(rank) : costs));
  return simulate(program, schedule, { costs: ofRanks, network });
}
