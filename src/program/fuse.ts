/**
 * Neighbouring kernels as one: fewer calls, and activations that never leave the engine. A transform of forward programs that
 * changes no number (an engine may round otherwise where it fuses across what were two kernels).
 */
import { assert } from "../core/errors.js";
import { ProgramBuilder } from "./builder.js";
import { FusedOperators, type Group } from "./fused-operators.js";
import { type Ordering, numBits, orderingOf, relationsTo } from "./fusion-order.js";
import { type Fusable, KernelRun, kernelsOf } from "./kernel-run.js";
import type { KernelData } from "./kinds.js";
import type { Operator } from "./operator.js";
import type { Program } from "./program.js";
import { renumber } from "./renumber.js";
import type { Schedule } from "./schedule.js";
import { roleOf } from "./work.js";

export interface FuseOptions {
  /** Values whose content is wanted after a run. What nobody reads is always kept. */
  readonly keep?: Iterable<number>;
  /** Most bytes of weights in one kernel, as f32. A larger operator stays as it is. Default 1 GiB. */
  readonly maxWeightBytes?: number;
  /** Most ops in one kernel. A larger operator stays as it is. Default 500. */
  readonly maxOps?: number;
  /**
   * A legal schedule that the program will run under: neighbours in its compute order are fused, and it is translated. No transfer then
   * starts, and no operator waits, for another one than before. Default: any schedule; the order is chosen so that most
   * neighbours meet, and where rows really travel large operators stay apart that experts may be placed between.
   */
  readonly schedule?: Schedule;
}

export interface FusedProgram {
  readonly program: Program;
  /** Ids of the values that are left, by their id in the original. */
  readonly values: ReadonlyMap<number, number>;
  /** By operator of the original: which one it is, or is part of. */
  readonly operators: readonly number[];
  /** The one that was given, in the new ids. */
  readonly schedule?: Schedule;
}

/** Sessions are read as one message of 2 GiB at most; a half leaves room for packing. */
const DEFAULT_WEIGHT_BYTES = 2 ** 30;
/**
 * Compiling takes time and memory that grow with the square of a graph (onnxruntime: 0.1 s for 16 dense blocks of 63 ops, 1 s for 48; 12
 * blocks of latent attention, of 178 ops each, 0.5 GB); a call more costs 10 µs.
 */
const DEFAULT_OPS = 500;

/** Runs of neighbouring `kernel` operators, and `sum`s among them, as one `kernel` operator each. */
export function fuseKernels(program: Program, options: FuseOptions = {}): FusedProgram {
  const { keep = [], schedule } = options;
  for (const { name, pass } of program.operators) assert(pass === "forward", `${name} is of a forward pass`);
  const kernels = kernelsOf(program);
  const groups = groupsOf(program, kernels, options);
  const fused = new FusedOperators(program, { kernels, groups, keep: new Set(keep) });
  const values = new Map<number, number>();
  for (const { id } of program.values) if (!fused.isInside(id)) values.set(id, values.size);
  const left = program.values.filter(({ id }) => values.has(id)).map((value, id) => ({ ...value, id }));
  const builder = new ProgramBuilder({ name: program.name, operators: [], values: left });
  const operators = new Array<number>(program.operators.length).fill(0);
  const to = (value: number): number => values.get(value) as number;
  for (const group of groups) {
    const op = group.length === 1 ? group[0] : fused.operatorOf(group);
    const id = builder.nextId;
    for (const member of group) operators[member.id] = id;
    const after = new Set(group.flatMap((member) => member.after.map((before) => operators[before])));
    after.delete(id);
    builder.add({
      ...op,
      reads: op.reads.map(to),
      writes: op.writes.map(to),
      after: [...after].sort((a, b) => a - b),
      data: renumber(op, to),
    });
  }
  return {
    program: builder.build(program.name),
    values,
    operators,
    schedule: schedule && translate(schedule, operators),
  };
}

/** All operators in an order that keeps dependencies, in groups. */
function groupsOf(
  program: Program,
  kernels: readonly (KernelData | undefined)[],
  options: FuseOptions,
): Group[] {
  const { maxWeightBytes = DEFAULT_WEIGHT_BYTES, maxOps = DEFAULT_OPS, schedule } = options;
  const limits = { maxWeightBytes, maxOps };
  const ordering = orderingOf(program, schedule);
  const fusables = fusablesOf(program, kernels, { ordering, isScheduled: schedule !== undefined });
  const pick = schedule === undefined ? freely(program, ordering, fusables) : inOrder(ordering);
  const groups: Group[] = [];
  let run = new KernelRun(program, limits);
  const close = (): void => {
    const members = run.members.map(({ op }) => op);
    // Sums alone stay sums.
    const isKernel = members.some(({ kind }) => kind === "kernel");
    groups.push(...(isKernel ? [members] : members.map((member) => [member])));
    run = new KernelRun(program, limits);
  };
  for (let left = program.operators.length; left > 0; left--) {
    const op = program.operators[pick(run)];
    const fusable = fusables[op.id];
    if (fusable === undefined || !run.accepts(fusable)) close();
    if (fusable === undefined) groups.push([op]);
    else run.add(fusable);
  }
  close();
  return groups;
}

/** The next operator, in an order that is given. */
function inOrder({ order }: Ordering): () => number {
  let at = 0;
  return () => order[at++];
}

/**
 * The next operator: one that goes on with the run; otherwise what is no kernel, so that as many kernels as possible can run
 * then; otherwise, of the kernels, one that no other waits for through transfers.
 */
function freely(
  { operators }: Program,
  { before }: Ordering,
  fusables: readonly (PlacedFusable | undefined)[],
): (run: KernelRun) => number {
  const waiting = before.map((ids) => ids.length);
  const followers: number[][] = before.map(() => []);
  before.forEach((ids, id) => ids.forEach((earlier) => followers[earlier].push(id)));
  const ready = new Set(operators.filter(({ id }) => waiting[id] === 0).map(({ id }) => id));
  const depthOf = (id: number): number => fusables[id]?.depth ?? 0;
  return (run) => {
    const ids = [...ready].sort((a, b) => a - b);
    const goesOn = (id: number): boolean => {
      const fusable = fusables[id];
      return run.members.length > 0 && fusable !== undefined && run.accepts(fusable);
    };
    const next =
      ids.find(goesOn) ??
      ids.find((id) => fusables[id] === undefined) ??
      ids.reduce((best, id) => (depthOf(id) < depthOf(best) ? id : best));
    ready.delete(next);
    for (const id of followers[next]) if (--waiting[id] === 0) ready.add(id);
    return next;
  };
}

interface PlacedFusable extends Fusable {
  /** Smaller than that of all that wait for it and are not to be fused with it. */
  readonly depth: number;
}

/**
 * By operator id. Two operators may be fused if the same transfers wait for both, and both wait for the same: then no transfer
 * starts later than when both have run, as before, and the first waits for nothing that only the second needs.
 */
function fusablesOf(
  { operators }: Program,
  kernels: readonly (KernelData | undefined)[],
  { ordering, isScheduled }: { readonly ordering: Ordering; readonly isScheduled: boolean },
): readonly (PlacedFusable | undefined)[] {
  // Edges of a schedule may go through transfers that move nothing.
  const isUnderWay = (op: Operator): boolean => op.stream !== "compute" && (isScheduled || moves(op));
  const transfers = relationsTo(operators.filter(isUnderWay), ordering);
  const experts = operators.filter((op) => op.kind === "expert" && op.data.shape.epSize > 1);
  const placed = relationsTo(experts, ordering);
  const all = (1n << BigInt(experts.length)) - 1n;
  return kernels.map((data, id) => {
    if (data === undefined) return undefined;
    const op = operators[id];
    const [before, after] = [transfers.before[id], transfers.after[id]];
    const beside = isScheduled || roleOf(op) !== "large" ? 0n : all & ~placed.before[id] & ~placed.after[id];
    const depth = numBits(before) - numBits(after);
    return { op, data, beside, waits: `${before} ${after}`, depth };
  });
}

function moves(op: Operator): boolean {
  return op.kind !== "transfer" || op.data.shape.epSize > 1;
}

function translate(schedule: Schedule, operators: readonly number[]): Schedule {
  const ids = (order: readonly number[]): number[] => [...new Set(order.map((id) => operators[id]))];
  const { compute, network, storage } = schedule.order;
  const edges = new Map<string, readonly [number, number]>();
  for (const [before, after] of schedule.edges) {
    const [earlier, later] = [operators[before], operators[after]];
    if (earlier !== later) edges.set(`${earlier} ${later}`, [earlier, later]);
  }
  return {
    ...schedule,
    order: { compute: ids(compute), network: ids(network), storage: ids(storage) },
    edges: [...edges.values()],
  };
}
