/**
 * Times that no schedule of a layout goes below, without building all of its program: blocks that repeat cost the same each
 * time, so that two short models tell what a long one costs.
 */
import { listParameters } from "../model/parameters.js";
import type { Kind, Operator } from "../program/operator.js";
import { type Program, dependencies } from "../program/program.js";
import { placeSegments } from "../schedule/bound.js";
import { levelBytes } from "../simulate/analytic.js";
import type { Costs } from "../simulate/costs.js";
import { caseProgram, costsOf, withReductions } from "./plan-case.js";
import type { PlannedModel, Question } from "./plan-question.js";

/** Milliseconds that each of a rank's resources is busy: links for bytes over rate, without latency. */
export interface BusyTimes {
  readonly compute: number;
  /** Ports within the node and between nodes, and a node's way out. */
  readonly intra: number;
  readonly inter: number;
  readonly uplink: number;
}

/** A micro-batch. */
interface MicroBatchTimes extends BusyTimes {
  /** All operators one after another, with latency. */
  readonly serial: number;
  /** The best that its segments, which follow each other, could be. */
  readonly segments: number;
  /** Compute that the first backward operator depends on, and the last operator, each itself included. */
  readonly forward: number;
  readonly ahead: number;
  /** What the links carry in the backward pass. */
  readonly intraBackward: number;
  readonly interBackward: number;
  readonly uplinkBackward: number;
}

/** Of a micro-batch, and of what comes once per step: gathering and update, which mostly lead; gradients to their owners. */
export interface LayoutTimes {
  readonly microBatch: MicroBatchTimes;
  readonly leading: BusyTimes;
  readonly reduction: BusyTimes;
  /** Of both, all operators one after another; transfers that follow each other share their latency. */
  readonly serial: number;
  /** The weights that the first operator reads: gathered, updated. */
  readonly firstBucketMs: number;
  /** A bucket whose gradients the last operator completes: to its owners, and summed. */
  readonly lastBucketMs: number;
}

const LEADING: readonly Kind[] = ["all-gather", "update"];
const REDUCING: readonly Kind[] = ["reduce-scatter", "reduce-sum"];

/** @throws InputError when the ranks do not divide the experts */
export function layoutTimes(question: Question, arch: string, chunks: number): LayoutTimes {
  const costs = costsOf(question);
  const model = question.modelOf(arch);
  const of = (short: PlannedModel): MicroBatchTimes =>
    programTimes(caseProgram(question, arch, chunks, short).program, costs, question);
  const [shorter, longer] = shortModels(model) ?? [];
  const built = caseProgram(question, arch, chunks, shorter ?? model);
  const first = programTimes(built.program, costs, question);
  const { operators } = withReductions({ ...built, model }, question);
  const begin = operators.findIndex(({ kind }) => !LEADING.includes(kind));
  const withoutLatency: Costs = (op) =>
    Math.max(0, costs(op) - (op.stream === "network" ? question.cluster.latencyMs : 0));
  const leading = operators.filter(({ kind }) => LEADING.includes(kind));
  const reducing = operators.filter(({ kind }) => REDUCING.includes(kind));
  return {
    microBatch:
      shorter === undefined || longer === undefined
        ? first
        : extrapolate([shorter, first], [longer, of(longer)], model.config.num_hidden_layers),
    serial: [...leading, ...reducing].reduce((sum, op) => sum + withoutLatency(op), 0),
    firstBucketMs: firstBucket(operators, begin, costs),
    leading: busyTimes(leading, costs, question),
    reduction: busyTimes(reducing, costs, question),
    lastBucketMs: lastBucket(reducing, lastOfAll(operators), costs),
  };
}

/** A step of `microBatches` micro-batches, one of them with update and reduction. */
export function stepBound(
  { microBatch: once, leading, reduction, serial, firstBucketMs, lastBucketMs }: LayoutTimes,
  of: { readonly microBatches: number; readonly isSequential: boolean },
): number {
  const { microBatches, isSequential } = of;
  if (isSequential) return microBatches * once.serial + serial;
  const alone = Math.max(busiest(once), once.segments);
  // Gradients are there once there is a loss.
  const behindForward = Math.max(
    once.intraBackward + reduction.intra,
    once.interBackward + reduction.inter,
    once.uplinkBackward + reduction.uplink,
  );
  const links = (["intra", "inter", "uplink"] as const).map(
    (level) => once[level] + leading[level] + reduction[level],
  );
  const last = Math.max(
    alone,
    once.compute + leading.compute + reduction.compute,
    ...links,
    firstBucketMs + once.forward + behindForward,
    firstBucketMs + once.ahead + lastBucketMs,
  );
  return (microBatches - 1) * alone + last;
}

function busiest({ compute, intra, inter, uplink }: BusyTimes): number {
  return Math.max(compute, intra, inter, uplink);
}

function programTimes(program: Program, costs: Costs, question: Question): MicroBatchTimes {
  const { operators } = program;
  const backward = operators.filter(({ pass }) => pass === "backward");
  const links = busyTimes(backward, costs, question);
  // The simulated links carry on during a message's latency; the bound must allow for that.
  const cost = Float64Array.from(operators, (op) =>
    Math.max(0, costs(op) - (op.stream === "network" ? question.cluster.latencyMs : 0)),
  );
  return {
    ...busyTimes(operators, costs, question),
    serial: operators.reduce((sum, op) => sum + costs(op), 0),
    segments: placeSegments(program, cost).reduce((sum, { boundMs }) => sum + boundMs, 0),
    forward: computeAhead(program, backward[0]?.id ?? 0, costs),
    ahead: computeAhead(program, operators.length - 1, costs),
    intraBackward: links.intra,
    interBackward: links.inter,
    uplinkBackward: links.uplink,
  };
}

/** Compute that an operator depends on, itself included. */
function computeAhead(program: Program, last: number, costs: Costs): number {
  const before = dependencies(program);
  const isAhead = new Uint8Array(last + 1);
  isAhead[last] = 1;
  let ahead = 0;
  for (let id = last; id >= 0; id--) {
    if (isAhead[id] === 0) continue;
    for (const earlier of before[id]) isAhead[earlier] = 1;
    const op = program.operators[id];
    if (op.stream === "compute") ahead += costs(op);
  }
  return ahead;
}

/** Milliseconds until what the first operator behind the leading ones waits for can have happened. */
function firstBucket(operators: readonly Operator[], first: number, costs: Costs): number {
  const until = (id: number): number => costs(operators[id]) + Math.max(0, ...operators[id].after.map(until));
  return Math.max(0, ...operators[first].after.filter((id) => id < first).map(until));
}

/** The last operator of the micro-batch itself. */
function lastOfAll(operators: readonly Operator[]): number {
  const isOwn = ({ kind }: Operator): boolean => !LEADING.includes(kind) && !REDUCING.includes(kind);
  return operators.findLast(isOwn)?.id ?? 0;
}

/** Milliseconds of the longest chain of a bucket that waits for an operator. */
function lastBucket(reducing: readonly Operator[], waitsFor: number, costs: Costs): number {
  const chains = new Map<string, number>();
  for (const op of reducing) {
    if (op.kind !== "reduce-scatter" && op.kind !== "reduce-sum") continue;
    const { bucket } = op.data;
    if (op.kind === "reduce-scatter" && op.after.includes(waitsFor)) chains.set(bucket, 0);
    const ms = chains.get(bucket);
    if (ms !== undefined) chains.set(bucket, ms + costs(op));
  }
  return Math.max(0, ...chains.values());
}

function busyTimes(operators: readonly Operator[], costs: Costs, question: Question): BusyTimes {
  const { cluster, ranks, epSize } = question;
  const { devicesPerNode, intraBytesPerMs, interBytesPerMs, uplinkBytesPerMs, linkEfficiency } = cluster;
  let [compute, intra, inter, uplink] = [0, 0, 0, 0];
  for (const op of operators) {
    if (op.stream === "compute") compute += costs(op);
    if (op.stream !== "network") continue;
    const bytes = levelBytes(op, { ranks, epSize, devicesPerNode });
    intra += bytes.intra / (intraBytesPerMs * linkEfficiency);
    inter += bytes.inter / (interBytesPerMs * linkEfficiency);
    if (uplinkBytesPerMs !== undefined)
      uplink += (bytes.sharers * bytes.inter) / (uplinkBytesPerMs * linkEfficiency);
  }
  return { compute, intra, inter, uplink };
}

/** Two and three of the blocks that repeat, or nothing where blocks differ or are few. */
function shortModels({ config, kernels }: PlannedModel): readonly [PlannedModel, PlannedModel] | undefined {
  const period = config.moe_layer_interval * (config.architecture.shareMoe ?? 1);
  const isRegular =
    config.num_hidden_layers % period === 0 &&
    config.num_hidden_layers > 3 * period &&
    config.dense_layers.length === 0 &&
    config.sliding_window_layers === undefined;
  if (!isRegular) return undefined;
  const short = (periods: number): PlannedModel => {
    const shortened = { ...config, num_hidden_layers: periods * period };
    return { config: shortened, parameters: listParameters(shortened), kernels };
  };
  return [short(2), short(3)];
}

function extrapolate(
  [{ config: short }, few]: readonly [PlannedModel, MicroBatchTimes],
  [{ config: long }, more]: readonly [PlannedModel, MicroBatchTimes],
  layers: number,
): MicroBatchTimes {
  const steps = (layers - short.num_hidden_layers) / (long.num_hidden_layers - short.num_hidden_layers);
  const of = (name: keyof MicroBatchTimes): number => few[name] + steps * (more[name] - few[name]);
  const names = Object.keys(few) as (keyof MicroBatchTimes)[];
  return Object.fromEntries(names.map((name) => [name, of(name)])) as unknown as MicroBatchTimes;
}
