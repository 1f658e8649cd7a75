/** One architecture under one policy: its program, costs, schedule, simulated step and memory. */
import { InputError } from "../core/errors.js";
import { mean } from "../core/statistics.js";
import type { Symbols } from "../kernel/symbols.js";
import { reductionBuckets } from "../model/gradient-buckets.js";
import { buildProgram } from "../model/language-model.js";
import { buildTrainingProgram } from "../model/training-program.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { wholeStep } from "../program/reduction.js";
import type { Schedule } from "../program/schedule.js";
import { roleOf } from "../program/work.js";
import { type DeviceMemory, deviceMemory, rankBuckets } from "../run/device-memory.js";
import { lowerBound } from "../schedule/bound.js";
import { describePlacement } from "../schedule/placement.js";
import { type Policy, parsePolicy } from "../schedule/policy.js";
import { analyticCosts } from "../simulate/analytic.js";
import { clusterNetwork, unevenLoads } from "../simulate/cluster-network.js";
import type { Costs } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { combined } from "../timeline/summary.js";
import type { Timeline, TimelineSummary } from "../timeline/timeline.js";
import type { PlannedModel, Question } from "./plan-question.js";

/** The predicted step of an architecture under a policy; times in ms, means over ranks. */
export interface PlannedCase extends TimelineSummary {
  readonly arch: string;
  /** With the number of chunks that was chosen, when the choice was free. */
  readonly policy: string;
  /** Training: the step (a micro-batch) with the update of the weights and the reduction of all gradients, which come once per optimiser step. */
  readonly reducedMs?: number;
  readonly lowerBoundMs: number;
  /** What a rank needs on its device. */
  readonly memory: DeviceMemory;
  readonly placement: string;
  readonly note: string;
  readonly timeline: Timeline;
}

/** A model's program at the sizes asked for, without reduction. */
export interface CaseProgram {
  readonly model: PlannedModel;
  readonly program: Program;
  readonly symbols: Symbols;
  /** Values that are read after the step. */
  readonly keep: ReadonlySet<number>;
}

/**
 * The program of a micro-batch, or of a forward pass.
 * @param model default that of the architecture, all of it
 * @throws InputError when the ranks do not divide the experts
 */
export function caseProgram(
  question: Question,
  arch: string,
  chunks: number,
  model = question.modelOf(arch),
): CaseProgram {
  const { config, kernels } = model;
  const { batch, sequence, epSize, ranks, mode, elementBytes, recompute } = question;
  if (config.architecture.routed !== "none" && config.num_experts % epSize !== 0)
    throw new InputError(
      `The expert-parallel size ${epSize} does not divide the ${config.num_experts} experts of ${arch}; every rank has equally many`,
    );
  const wire = elementBytes === 2 ? ("bf16" as const) : ("f32" as const);
  const shape = { batch, sequence, epSize, ranks, chunks, wire, kernels };
  if (mode === "forward") {
    const { program, symbols, output } = buildProgram(config, { ...shape, head: "losses" });
    return { model, program, symbols, keep: new Set([output]) };
  }
  const { program, symbols, output, statistics } = buildTrainingProgram(config, { ...shape, recompute });
  return {
    model,
    program,
    symbols,
    keep: new Set(statistics === undefined ? [output] : [output, statistics]),
  };
}

export function costsOf({ cluster, calibration, elementBytes, ranks, epSize }: Question): Costs {
  return analyticCosts({ cluster, calibration, elementBytes, ranks, epSize });
}

/** The same program with the update that the step before left, and the reduction of all of its gradients. */
export function withReductions({ program, model }: CaseProgram, question: Question): Program {
  const { parameters } = model;
  const { epSize } = question;
  // Uncut, and in the model's own type.
  const options = { ...question, wire: "f32", maxPieces: 1 } as const;
  return wholeStep(program, reductionBuckets(rankBuckets(parameters, epSize), options)).program;
}

/** What a rank needs on its device under a schedule. */
export function memoryOf(question: Question, of: CaseProgram, schedule: Schedule): DeviceMemory {
  return deviceMemory(of.model.parameters, question, { ...of, schedule });
}

/**
 * Predicts the step of an architecture under a policy.
 * @throws InputError on an unknown name, or when the ranks do not divide the experts
 */
export function predictCase(question: Question, arch: string, policyName: string): PlannedCase {
  const { mode, imbalance, cluster } = question;
  const policy = parsePolicy(policyName);
  const built = caseProgram(question, arch, policy.chunks);
  const { program } = built;
  const costs = costsOf(question);
  const schedule = policy.schedule(program, costs);
  const steps = Array.from({ length: imbalance > 1 ? question.steps : 1 }, (_, step) =>
    simulateStep(program, schedule, { ...question, costs, step }),
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
    reducedMs: mode === "train" ? reducedStep(question, built, { policy, costs }).summary.stepMs : undefined,
    lowerBoundMs: lowerBound(program, withoutLatency),
    memory: memoryOf(question, built, schedule),
    placement: describePlacement(program, schedule),
    note: schedule.note,
    timeline: steps[0],
  };
}

/** The step of a micro-batch that begins with the update of the weights and ends with the reduction of all gradients. */
export function reducedStep(
  question: Question,
  built: CaseProgram,
  by: { readonly policy: Policy; readonly costs: Costs; readonly simulated?: "group" | "one" },
): Timeline {
  const { policy, costs, simulated } = by;
  const reducing = withReductions(built, question);
  return simulateStep(reducing, policy.schedule(reducing, costs), { ...question, costs, step: 0, simulated });
}

/** One group of ranks that share the experts stands for all; where they are alike, one of them for the group. */
export function simulateStep(
  program: Program,
  schedule: Schedule,
  at: Question & {
    readonly costs: Costs;
    readonly step: number;
    readonly simulated?: "group" | "one" | undefined;
  },
): Timeline {
  const { epSize, costs, imbalance, simulated = "group" } = at;
  const loadOf = unevenLoads(epSize, imbalance, { seed: 0, step: at.step });
  const network = clusterNetwork(at, at.cluster, loadOf);
  if (simulated === "one") return simulate(program, schedule, { costs: [costs], network });
  const ofRank =
    (rank: number): Costs =>
    (op: Operator) =>
      costs(op) * (roleOf(op) === "expert" ? loadOf(op.layer ?? 0)[rank] : 1);
  const ofRanks = Array.from({ length: epSize }, (_, rank) => (imbalance > 1 ? ofRank(rank) : costs));
  return simulate(program, schedule, { costs: ofRanks, network });
}
