/** What a cluster would see: predicted step time of architectures × policies. */
import { type ModelInput, resolveModel } from "../model/config.js";
import { buildProgram } from "../model/wiring.js";
import { lowerBound } from "../schedule/bound.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Cluster } from "../simulate/clusters.js";
import { simulate } from "../simulate/simulate.js";
import type { Timeline } from "../simulate/timeline.js";
import { analyticCosts } from "./analytic.js";

export interface PlanOptions {
  readonly model: ModelInput;
  readonly cluster: Cluster;
  readonly cases: readonly { readonly arch: string; readonly policy: string }[];
  /** Sequences per rank. */
  readonly batch: number;
  readonly sequence: number;
  readonly epSize: number;
  readonly mode: "train" | "loss";
  /** Largest over mean load of a rank's experts: 1 is balanced. */
  readonly imbalance: number;
  readonly elementBytes: number;
}

export interface PlanRow {
  readonly arch: string;
  readonly policy: string;
  readonly stepMs: number;
  readonly computeMs: number;
  readonly communicationMs: number;
  readonly exposedMs: number;
  readonly overlapShare: number;
  readonly lowerBoundMs: number;
  readonly speedUp: number;
  readonly note: string;
  readonly timeline: Timeline;
}

/** Rows in the order asked for; speed-up over the first row. @throws InputError when the model does not fit */
export function plan(options: PlanOptions): PlanRow[] {
  const rows: PlanRow[] = [];
  for (const { arch, policy: name } of options.cases) {
    const { coefficient_gate: _gate, num_experts_per_tok: _k, ...model } = options.model;
    const config = resolveModel({ ...model, arch });
    const policy = parsePolicy(name);
    const { batch, sequence, epSize, mode, elementBytes } = options;
    const { program } = buildProgram(config, { batch, sequence, epSize, chunks: policy.chunks, mode });
    const workload = {
      config,
      tokens: batch * sequence,
      sequence,
      epSize,
      chunks: policy.chunks,
      elementBytes,
    };
    const costs = analyticCosts(workload, options.cluster);
    const schedule = policy.schedule(program, costs);
    // One rank has the busiest experts, the others share what is left; two ranks stand for all.
    const busy = options.imbalance;
    const scaled =
      (factor: number): typeof costs =>
      (op) =>
        costs(op) * (/^(expert|dispatch|combine)/.test(op.cost) ? factor : 1);
    const ranks = busy === 1 ? [costs] : [scaled(busy), scaled((epSize - busy) / (epSize - 1))];
    const timeline = simulate(program, schedule, { costs: ranks });
    const { summary } = timeline;
    rows.push({
      arch,
      policy: name,
      ...summary,
      lowerBoundMs: lowerBound(program, costs),
      speedUp: (rows[0]?.stepMs ?? summary.stepMs) / summary.stepMs,
      note: schedule.note,
      timeline,
    });
  }
  return rows;
}
