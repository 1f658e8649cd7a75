/** Memory of each kind of operator: what it writes, and what it needs beside that while it runs. */
import { type KernelMemory, kernelMemory } from "../engine/kernel-memory.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Symbols } from "../kernel/symbols.js";
import { elementBytes } from "../kernel/workspace.js";
import type { MoeShape } from "./kinds.js";
import { type Operator, type OperatorOf, type RuleTable, applyRule } from "./operator.js";
import type { Program } from "./program.js";

/** A value as it is written: bytes of its own, and values whose memory it shares. */
export interface Written {
  readonly value: number;
  readonly bytes: number;
  readonly shares: readonly number[];
}

export interface Footprint {
  readonly written: readonly Written[];
  /** Intermediate results beside the values, and in memory of the engine's own. */
  readonly scratchBytes: number;
  readonly engineBytes: number;
}

/**
 * Where the number of rows that will come is unknown, room is taken for this many times as many as came most so far, or,
 * the first time, as are sent.
 */
export const POOL_SLACK = 1.25;

interface Sizes {
  /** T (tokens) and B (sequences) of a micro-batch on one rank. */
  readonly symbols: Symbols;
  /** Upper bound of a value. */
  readonly boundOf: (value: number) => number;
}

/** Values that are not as large as their upper bound, or share memory; and intermediate results, default none. */
type Exceptions = Partial<Footprint>;

const asBound = (): Exceptions => ({});

const kernelRule = (
  { data: { kernel, inputs, outputs } }: OperatorOf<"kernel" | "kernel'">,
  { symbols }: Sizes,
): Exceptions => ({
  written: kernel.outputs.flatMap(({ name, expr, aliasOf }) => {
    const value = outputs[name];
    if (value === undefined) return [];
    // A state updated in place has no memory but its own.
    return aliasOf === undefined
      ? [{ value, bytes: elementBytes(expr, symbols), shares: [] }]
      : [{ value, bytes: 0, shares: [inputs[aliasOf]] }];
  }),
  ...scratchOf(kernelMemory(kernel, symbols)),
});

const FOOTPRINTS: RuleTable<[sizes: Sizes], Exceptions> = {
  embed: asBound,
  "embed'": asBound,
  kernel: kernelRule,
  "kernel'": kernelRule,
  route: asBound,
  "route'": asBound,
  encode: asBound,
  "encode'": asBound,
  transfer({ data: { shape, input, output, bringsCounts } }, { boundOf }) {
    // One rank sends to itself: the same memory under another name.
    if (shape.epSize === 1) return { written: [{ value: output, bytes: 0, shares: [input] }] };
    // On the wire in halves: those sent, and those received.
    const halves = shape.wire === "bf16" ? (boundOf(input) + boundOf(output)) / 2 : 0;
    const isPool = bringsCounts && shape.wire === "f32";
    const bytes = boundOf(output) * (isPool ? POOL_SLACK : 1);
    return { scratchBytes: halves, written: [{ value: output, bytes, shares: [] }] };
  },
  expert({ data: { kernel, saved, shape, chunks, arrived, output } }, { symbols, boundOf }) {
    const scratch = oneExpert(kernel, shape, chunks, symbols);
    const isSingle = shape.epSize === 1;
    // Rows in the layout by expert, as they came and as they go: on one rank both layouts are one.
    const [rows, results] = isSingle ? [0, 0] : [boundOf(arrived), boundOf(output)];
    const scratchBytes = scratch.scratchBytes + results;
    if (saved === undefined) return { ...scratch, scratchBytes: scratchBytes + rows };
    const bytes = rowOutputs(kernel, { shape, chunks, symbols }, (name) => name !== "y") + rows;
    const written = [
      { value: output, bytes: boundOf(output), shares: [] },
      { value: saved, bytes, shares: isSingle ? [arrived] : [] },
    ];
    return { ...scratch, scratchBytes, written };
  },
  "expert'"({ data }, { symbols, boundOf }) {
    const { kernel, forward, part } = data;
    const { shape, chunks } = forward;
    const scratch = oneExpert(kernel, shape, chunks, symbols);
    if (part === "weight") return scratch;
    const isSingle = shape.epSize === 1;
    const [rows, results] = isSingle ? [0, 0] : [boundOf(data.dOutput), boundOf(data.dArrived)];
    const carried = rowOutputs(kernel, { shape, chunks, symbols }, (name) => name.startsWith("t_")) + rows;
    const scratchBytes = scratch.scratchBytes + results;
    if (part === "both") return { ...scratch, scratchBytes: scratchBytes + carried };
    const written = [
      { value: data.dArrived, bytes: boundOf(data.dArrived), shares: [] },
      { value: data.carried, bytes: carried, shares: isSingle ? [data.dOutput] : [] },
    ];
    return { ...scratch, scratchBytes, written };
  },
  decode: asBound,
  "decode'": asBound,
  sum: asBound,
  statistics: asBound,
  "reduce-scatter": asBound,
  "reduce-sum": asBound,
  "all-gather": asBound,
};

export function footprint(op: Operator, program: Program, symbols: Symbols): Footprint {
  const boundOf = (value: number): number => program.values[value].bytes;
  const { written = [], scratchBytes = 0, engineBytes = 0 } = applyRule(FOOTPRINTS, op, { symbols, boundOf });
  const known = new Map(written.map((w) => [w.value, w]));
  return {
    written: op.writes.map((value) => known.get(value) ?? { value, bytes: boundOf(value), shares: [] }),
    scratchBytes,
    engineBytes,
  };
}

function scratchOf({ handedBytes, graphBytes }: KernelMemory): Omit<Footprint, "written"> {
  return { scratchBytes: handedBytes, engineBytes: graphBytes };
}

/** Bytes of those of a kernel's outputs that are kept for all rows of a chunk, spread evenly over ranks. */
function rowOutputs(
  kernel: Kernel,
  at: { readonly shape: MoeShape; readonly chunks: number; readonly symbols: Symbols },
  isWanted: (name: string) => boolean,
): number {
  const rows = new Map([["R", Math.ceil((tokens(at.symbols) * at.shape.topK) / at.chunks)]]);
  const wanted = kernel.outputs.filter(({ name }) => isWanted(name));
  return wanted.reduce((sum, { expr }) => sum + elementBytes(expr, rows), 0);
}

/** Experts run one at a time, each on its share of the rows. */
function oneExpert(
  kernel: Kernel,
  { topK, numExperts }: MoeShape,
  chunks: number,
  symbols: Symbols,
): Omit<Footprint, "written"> {
  const rows = (tokens(symbols) * topK) / chunks / numExperts;
  return scratchOf(kernelMemory(kernel, new Map([["R", Math.ceil(rows)]])));
}

function tokens(symbols: Symbols): number {
  return symbols.get("T") as number;
}
