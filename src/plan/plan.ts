/** What a cluster would see: predicted step time of architectures × policies. */
import { mean } from "../core/statistics.js";
import { type ModelConfig, type ModelInput, resolveModel } from "../model/config.js";
import { bucketsOf } from "../model/buckets.js";
import { buildProgram } from "../model/language-model.js";
import { listParameters } from "../model/parameters.js";
import { buildTrainingProgram } from "../model/training-program.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { type ReductionBucket, withReduction } from "../program/reduction.js";
import { roleOf } from "../program/work.js";
import { lowerBound } from "../schedule/bound.js";
import { describePlacement } from "../schedule/placement.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../program/schedule.js";
import type { Cluster } from "../simulate/clusters.js";
import type { Costs } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { combined } from "../timeline/summary.js";
import type { Timeline } from "../timeline/timeline.js";
import { analyticCosts } from "../simulate/analytic.js";
import type { Calibration } from "../simulate/calibration.js";
import { clusterNetwork, unevenLoads } from "../simulate/cluster-network.js";

export interface PlanOptions {
  readonly model: ModelInput;
  readonly cluster: Cluster;
  readonly calibration?: Calibration;
  readonly cases: readonly { readonly arch: string; readonly policy: string }[];
  /** Sequences per rank. */
  readonly batch: number;
  readonly sequence: number;
  readonly epSize: number;
  readonly mode: "train" | "forward";
  /** Largest over mean load of a rank's experts: 1 is balanced. Which rank it is differs by layer and step. */
  readonly imbalance: number;
  /** Steps to simulate when loads are uneven; figures are means over them. */
  readonly steps: number;
  /** Bytes of an activation or weight element on the devices. */
  readonly elementBytes: 2 | 4;
}

/** The predicted step of an architecture under a policy; times in ms, means over ranks. */
export interface PlanRow {
  readonly arch: string;
  /** With the number of chunks that was chosen, when the choice was free. */
  readonly policy: string;
  /** A micro-batch, without the reduction of gradients. */
  readonly stepMs: number;
  /** Training: the same with the reduction of all gradients, which comes once per optimiser step. */
  readonly reducedMs?: number;
  readonly computeMs: number;
  readonly communicationMs: number;
  readonly exposedMs: number;
  /** Waiting for ranks with more rows. */
  readonly lateMs: number;
  readonly overlapShare: number;
  readonly lowerBoundMs: number;
  readonly speedUp: number;
  readonly placement: string;
  readonly note: string;
  readonly timeline: Timeline;
}

/** Chunk counts that a plain "adaptive" may choose among: a plan costs nothing but time to think. */
const CHUNK_CHOICES = [1, 2, 4] as const;

/** Rows in the order asked for; speed-up over the first row. @throws InputError when the model does not fit */
export function plan(options: PlanOptions): PlanRow[] {
  const rows: PlanRow[] = [];
  for (const { arch, policy } of options.cases) {
    const names =
      policy === "adaptive" ? CHUNK_CHOICES.map((n) => (n === 1 ? policy : `adaptive(${n})`)) : [policy];
    const found = names.map((name) => predict(options, arch, name));
    // More chunks must pay: the cost model knows their latency, but not what small matrices lose.
    const best = found.reduce((a, b) => (b.stepMs < a.stepMs * (1 - CHUNKS_MUST_GAIN) ? b : a));
    rows.push({ ...best, speedUp: (rows[0]?.stepMs ?? best.stepMs) / best.stepMs });
  }
  return rows;
}

const CHUNKS_MUST_GAIN = 0.02;

function predict(options: PlanOptions, arch: string, policyName: string): PlanRow {
  const { coefficient_gate: _gate, num_experts_per_tok: _k, ...model } = options.model;
  const { batch, sequence, epSize, mode, elementBytes, cluster, imbalance } = options;
  const config = resolveModel({ ...model, arch });
  const policy = parsePolicy(policyName);
  const ranks = cluster.nodes * cluster.devicesPerNode;
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
  const costs = analyticCosts({ cluster, calibration: options.calibration, elementBytes, ranks });
  const schedule = policy.schedule(program, costs);
  const at = { epSize, ranks, cluster, costs, imbalance };
  const steps = Array.from({ length: imbalance > 1 ? options.steps : 1 }, (_, step) =>
    simulateStep(program, schedule, { ...at, step }),
  );
  const reducing = mode === "train" ? withReduction(program, reductionBuckets(config, options)) : undefined;
  // The simulated links carry on during a message's latency; the bound must allow for that.
  const withoutLatency: Costs = (op) =>
    Math.max(0, costs(op) - (op.stream === "network" ? cluster.latencyMs : 0));
  return {
    arch,
    policy: policyName,
    ...combined(
      steps.map(({ summary }) => summary),
      mean,
    ),
    reducedMs:
      reducing && simulateStep(reducing, policy.schedule(reducing, costs), { ...at, step: 0 }).summary.stepMs,
    lowerBoundMs: lowerBound(program, withoutLatency),
    speedUp: 1,
    placement: describePlacement(program, schedule),
    note: schedule.note,
    timeline: steps[0],
  };
}

/** A rank's gradients in the buckets that training would have. */
function reductionBuckets(config: ModelConfig, options: PlanOptions): ReductionBucket[] {
  const { cluster, epSize, elementBytes } = options;
  const ranks = cluster.nodes * cluster.devicesPerNode;
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
  at: {
    readonly epSize: number;
    readonly ranks: number;
    readonly cluster: Cluster;
    readonly costs: Costs;
    readonly imbalance: number;
    readonly step: number;
  },
): Timeline {
  const { epSize, cluster, costs, imbalance } = at;
  const loadOf = unevenLoads(epSize, imbalance, { seed: 0, step: at.step });
  const network = clusterNetwork(at, cluster, loadOf);
  const ofRank =
    (rank: number): Costs =>
    (op: Operator) =>
      costs(op) * (roleOf(op) === "expert" ? loadOf(op.layer ?? 0)[rank] : 1);
  const ofRanks = Array.from({ length: epSize }, (_, rank) => (imbalance > 1 ? ofRank(rank) : costs));
  return simulate(program, schedule, { costs: ofRanks, network });
}
