/** What a cluster would see: predicted step time of architectures × policies. */
import { mean } from "../core/statistics.js";
import { type ModelInput, resolveModel } from "../model/config.js";
import { buildProgram } from "../model/wiring.js";
import type { Operator, Program } from "../program/program.js";
import { lowerBound } from "../schedule/bound.js";
import { describePlacement } from "../schedule/placement.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Schedule } from "../program/schedule.js";
import type { Cluster } from "../simulate/clusters.js";
import type { Costs } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { combined } from "../timeline/summary.js";
import type { Timeline } from "../timeline/timeline.js";
import { type Workload, analyticCosts } from "./analytic.js";
import type { Calibration } from "./calibration.js";
import { clusterNetwork, unevenLoads } from "./cluster-network.js";

export interface PlanOptions {
  readonly model: ModelInput;
  readonly cluster: Cluster;
  readonly calibration?: Calibration;
  readonly cases: readonly { readonly arch: string; readonly policy: string }[];
  /** Sequences per rank. */
  readonly batch: number;
  readonly sequence: number;
  readonly epSize: number;
  readonly mode: "train" | "loss";
  /** Largest over mean load of a rank's experts: 1 is balanced. Which rank it is differs by layer and step. */
  readonly imbalance: number;
  /** Steps to simulate when loads are uneven; figures are means over them. */
  readonly steps: number;
  readonly elementBytes: number;
}

/** The predicted step of an architecture under a policy; times in ms, means over ranks. */
export interface PlanRow {
  readonly arch: string;
  /** With the number of chunks that was chosen, when the choice was free. */
  readonly policy: string;
  readonly stepMs: number;
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
  const { chunks } = policy;
  const { program } = buildProgram(config, { batch, sequence, epSize, chunks, mode });
  const workload = { config, tokens: batch * sequence, sequence, epSize, chunks, elementBytes };
  const costs = analyticCosts(workload, cluster, options.calibration);
  const schedule = policy.schedule(program, costs);
  const steps = Array.from({ length: imbalance > 1 ? options.steps : 1 }, (_, step) =>
    simulateStep(program, schedule, { workload, cluster, costs, imbalance, step }),
  );
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
    lowerBoundMs: lowerBound(program, withoutLatency),
    speedUp: 1,
    placement: describePlacement(program, schedule),
    note: schedule.note,
    timeline: steps[0],
  };
}

/** One group of ranks that share the experts stands for all. */
function simulateStep(
  program: Program,
  schedule: Schedule,
  at: {
    readonly workload: Workload;
    readonly cluster: Cluster;
    readonly costs: Costs;
    readonly imbalance: number;
    readonly step: number;
  },
): Timeline {
  const { workload, cluster, costs, imbalance } = at;
  const loadOf = unevenLoads(workload.epSize, imbalance, { seed: 0, step: at.step });
  const network = clusterNetwork(workload, cluster, loadOf);
  const ofRank =
    (rank: number): Costs =>
    (op: Operator) =>
      costs(op) * (/^expert/.test(op.cost) ? loadOf(op.layer ?? 0)[rank] : 1);
  const ranks = Array.from({ length: workload.epSize }, (_, rank) => (imbalance > 1 ? ofRank(rank) : costs));
  return simulate(program, schedule, { costs: ranks, network });
}
