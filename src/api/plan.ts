/** What a cluster would see: predicted step time of architectures × policies, and the memory it takes. */
import type { Cluster } from "../simulate/clusters.js";
import { type PlannedCase, predictCase } from "./plan-case.js";
import { type Remedy, fitsDevice, remediesOf } from "./plan-fit.js";
import { type PlanOptions, type Question, withDefaults } from "./plan-question.js";

/** Architecture and policy pairs that are compared where none are named: the first is the baseline. */
export const DEFAULT_CASES = [
  { arch: "top2", policy: "sequential" },
  { arch: "top2", policy: "pipelined(2)" },
  { arch: "shared", policy: "sequential" },
  ...[1, 2, 3].map((position) => ({ arch: `scmoe-pos${position}`, policy: "adaptive" })),
  { arch: "farskip", policy: "adaptive" },
] as const;

/** A predicted case beside the first one. */
export interface PlanRow extends PlannedCase {
  readonly speedUp: number;
  /** Whether the devices' memory suffices, where the cluster says how much that is. */
  readonly fits?: boolean | undefined;
  /** Where it does not: what would make it fit. */
  readonly remedies?: readonly Remedy[] | undefined;
}

/** Chunk counts that a plain "adaptive" may choose among: a plan costs nothing but time to think. */
const CHUNK_CHOICES = [1, 2, 4] as const;
/** More chunks must pay: the cost model knows their latency, but not what small matrices lose. */
export const CHUNKS_MUST_GAIN = 0.02;

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
  const { cluster, epSize } = question;
  const rows: PlanRow[] = [];
  for (const { arch, policy } of options.cases ?? DEFAULT_CASES) {
    const best = bestChunks(question, arch, policy);
    const fits = fitsDevice(best.memory, cluster);
    const remedies = fits === false ? remediesOf(question, arch, best.policy) : undefined;
    rows.push({ ...best, speedUp: (rows[0]?.stepMs ?? best.stepMs) / best.stepMs, fits, remedies });
  }
  return { rows, cluster, epSize };
}

/** A policy with its chunks, or the best of those that a plain "adaptive" may choose. */
function bestChunks(question: Question, arch: string, policy: string): PlannedCase {
  const names = chunkChoices(policy);
  const found = names.map((name) => predictCase(question, arch, name));
  return found.reduce((a, b) => (b.stepMs < a.stepMs * (1 - CHUNKS_MUST_GAIN) ? b : a));
}

/** The policies that a name stands for, the simplest first. */
export function chunkChoices(policy: string): string[] {
  return policy === "adaptive" ? CHUNK_CHOICES.map((n) => (n === 1 ? policy : `adaptive(${n})`)) : [policy];
}
