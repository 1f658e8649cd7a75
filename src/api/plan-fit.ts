/** Whether a plan fits the devices' memory, and what would make it fit. */
import { greatestDivisor } from "../core/divisor.js";
import { type DeviceMemory, usableBytes } from "../run/device-memory.js";
import { parsePolicy } from "../schedule/policy.js";
import type { Cluster } from "../simulate/clusters.js";
import { caseProgram, costsOf, memoryOf } from "./plan-case.js";
import type { PlanOptions, Question } from "./plan-question.js";

/** Options that change what a rank needs, and what it needs then, in bytes. */
export interface Remedy {
  readonly change: Pick<PlanOptions, "batch" | "recompute" | "zero" | "epSize">;
  readonly bytes: number;
  readonly fits: boolean;
}

/** Undefined where the cluster does not say how much memory its devices have. */
export function fitsDevice({ total }: Pick<DeviceMemory, "total">, cluster: Cluster): boolean | undefined {
  return cluster.memoryBytes === undefined ? undefined : total <= usableBytes(cluster.memoryBytes);
}

/**
 * What would make a case fit that does not: each change that suffices by itself; where none does, all of them at once, whether
 * they suffice or not.
 */
export function remediesOf(question: Question, arch: string, policy: string): Remedy[] {
  const tried = new Map<string, Remedy>();
  const attempt = (change: Remedy["change"]): Remedy => {
    const key = JSON.stringify(change);
    let found = tried.get(key);
    if (found === undefined) tried.set(key, (found = withChange(question, { arch, policy }, change)));
    return found;
  };
  const { batch, mode, recompute, zero, epSize } = question;
  const ways: Remedy["change"][][] = [
    halves(batch).map((fewer) => ({ batch: fewer })),
    mode === "train" && !recompute ? [{ recompute: true }] : [],
    mode === "train" && !zero ? [{ zero: true }] : [],
    largerGroups(question, arch).map((larger) => ({ epSize: larger })),
  ];
  const alone = ways.flatMap((changes) => changes.map(attempt).find(({ fits }) => fits) ?? []);
  if (alone.length > 0) return alone;
  const all: Remedy["change"] = ways.reduce((found, changes) => ({ ...found, ...changes.at(-1) }), {});
  if (Object.keys(all).length === 0) return [];
  const needed = { ...all, epSize: all.epSize ?? epSize };
  // As few sequences as must be.
  const batches = all.batch === undefined ? [] : [batch, ...halves(batch)];
  const enough = batches.map((fewer) => ({ ...needed, batch: fewer })).find((change) => attempt(change).fits);
  return [attempt(enough ?? all)];
}

function withChange(
  question: Question,
  { arch, policy: name }: { readonly arch: string; readonly policy: string },
  change: Remedy["change"],
): Remedy {
  const changed = { ...question, ...defined(change) };
  const policy = parsePolicy(name);
  const built = caseProgram(changed, arch, policy.chunks);
  const memory = memoryOf(changed, built, policy.schedule(built.program, costsOf(changed)));
  return { change, bytes: memory.total, fits: fitsDevice(memory, question.cluster) ?? true };
}

/** Without what is undefined. */
function defined(change: Remedy["change"]): Partial<Question> {
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
}

function halves(batch: number): number[] {
  return batch > 1 ? [Math.floor(batch / 2), ...halves(Math.floor(batch / 2))] : [];
}

/** Expert-parallel sizes beyond the one asked for, up to the largest that there can be. */
function largerGroups({ ranks, epSize, modelOf }: Question, arch: string): number[] {
  const { num_experts: experts } = modelOf(arch).config;
  return divisorsOf(greatestDivisor(ranks, experts)).filter((size) => size > epSize);
}

/** Of a whole number from 1, ascending. */
export function divisorsOf(n: number): number[] {
  return Array.from({ length: n }, (_, i) => i + 1).filter((divisor) => n % divisor === 0);
}
