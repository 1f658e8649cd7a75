/** The optimiser step of one layout: micro-batches, one of them with the update of the weights and the reduction of gradients. */
import type { DeviceMemory } from "../run/device-memory.js";
import { type Policy, parsePolicy } from "../schedule/policy.js";
import { ranksAreAlike } from "../simulate/cluster-network.js";
import type { TimelineSummary } from "../timeline/timeline.js";
import { CHUNKS_MUST_GAIN, chunkChoices } from "./plan.js";
import { type CaseProgram, caseProgram, costsOf, memoryOf, reducedStep, simulateStep } from "./plan-case.js";
import type { Question } from "./plan-question.js";

/** Milliseconds of an optimiser step and of its parts. */
export interface LayoutStep {
  readonly policy: string;
  readonly stepMs: number;
  /** A micro-batch; one with the update of the weights and the reduction of all gradients. */
  readonly microBatchMs: number;
  readonly reducedMs: number;
  /** Share of a micro-batch's communication that is hidden. */
  readonly overlapShare: number;
  readonly memory: DeviceMemory;
}

interface Chosen {
  readonly policy: Policy;
  readonly built: CaseProgram;
  readonly summary: TimelineSummary;
  readonly memory: DeviceMemory;
}

/**
 * Simulates a layout on one rank, where that stands for all.
 * @param question about a micro-batch
 * @returns undefined when a rank needs more than `usableBytes`
 */
export function simulateLayout(
  question: Question,
  of: {
    readonly arch: string;
    readonly policy: string;
    readonly microBatches: number;
    readonly usableBytes: number;
  },
): LayoutStep | undefined {
  const costs = costsOf(question);
  const simulated = ranksAreAlike(question.epSize, question.cluster) ? "one" : "group";
  let chosen: Chosen | undefined;
  for (const name of chunkChoices(of.policy)) {
    // More chunks take no less compute: what is exposed is all that they could gain.
    if (chosen !== undefined && chosen.summary.exposedMs <= CHUNKS_MUST_GAIN * chosen.summary.stepMs) break;
    const policy = parsePolicy(name);
    const built = caseProgram(question, of.arch, policy.chunks);
    const schedule = policy.schedule(built.program, costs);
    const { summary } = simulateStep(built.program, schedule, { ...question, costs, step: 0, simulated });
    if (chosen !== undefined && summary.stepMs >= chosen.summary.stepMs * (1 - CHUNKS_MUST_GAIN)) continue;
    chosen = { policy, built, summary, memory: memoryOf(question, built, schedule) };
  }
  if (chosen === undefined || chosen.memory.total > of.usableBytes) return undefined;
  const { policy, built, summary, memory } = chosen;
  const reducedMs = reducedStep(question, built, { policy, costs, simulated }).summary.stepMs;
  return {
    policy: policy.name,
    stepMs: (of.microBatches - 1) * summary.stepMs + reducedMs,
    microBatchMs: summary.stepMs,
    reducedMs,
    overlapShare: summary.overlapShare,
    memory,
  };
}
