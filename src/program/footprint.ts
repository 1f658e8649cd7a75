/** Memory of each kind of operator: what it writes, and what it needs beside that while it runs. */
import { type KernelMemory, kernelMemory } from "../engine/kernel-memory.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Symbols } from "../kernel/symbols.js";
import { elementBytes } from "../kernel/workspace.js";
import type { ChunkData, MoeShape } from "./kinds.js";
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

/** Rows as they are routed: as many to every expert, zero experts included; or all to one, that is none of those. */
export type Spread = "even" | "one expert";

interface Sizes {
  readonly spread: Spread;
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
  encode: ({ data: { shape, send } }, sizes) => ofTokens(shape, [send], sizes),
  "encode'": asBound,
  transfer({ data: { shape, input, output, bringsCounts, direction } }, { boundOf, spread }) {
    // One rank sends to itself: the same memory under another name.
    if (shape.epSize === 1) return { written: [{ value: output, bytes: 0, shares: [input] }] };
    // On the wire in halves: those sent, and those received.
    const sent = tokenShare(shape, spread);
    const halves = shape.wire === "bf16" ? (sent * (boundOf(input) + boundOf(output))) / 2 : 0;
    const isPool = bringsCounts && shape.wire === "f32";
    const share = direction === "to-experts" ? rowShare(shape, spread) : sent;
    const bytes = boundOf(output) * share * (isPool ? POOL_SLACK : 1);
    return { scratchBytes: halves, written: [{ value: output, bytes, shares: [] }] };
  },
  expert({ data: { kernel, saved, shape, chunks, arrived, output } }, sizes) {
    const scratch = oneExpert(kernel, { shape, chunks }, sizes);
    const share = rowShare(shape, sizes.spread);
    const bytesOf = (value: number): number => sizes.boundOf(value) * share;
    const isSingle = shape.epSize === 1;
    // Rows in the layout by expert, as they came and as they go: on one rank both layouts are one.
    const [rows, results] = isSingle ? [0, 0] : [bytesOf(arrived), bytesOf(output)];
    const scratchBytes = scratch.scratchBytes + results;
    if (saved === undefined) return { ...scratch, scratchBytes: scratchBytes + rows };
    const bytes = rowOutputs(kernel, { shape, chunks, ...sizes }, (name) => name !== "y") + rows;
    const written = [
      { value: output, bytes: bytesOf(output), shares: [] },
      { value: saved, bytes, shares: isSingle ? [arrived] : [] },
    ];
    return { ...scratch, scratchBytes, written };
  },
  "expert'"({ data }, sizes) {
    const { kernel, forward, part } = data;
    const { shape, chunks } = forward;
    const scratch = oneExpert(kernel, forward, sizes);
    const share = rowShare(shape, sizes.spread);
    const bytesOf = (value: number): number => sizes.boundOf(value) * share;
    if (part === "weight") return scratch;
    const isSingle = shape.epSize === 1;
    const [rows, results] = isSingle ? [0, 0] : [bytesOf(data.dOutput), bytesOf(data.dArrived)];
    const carried = rowOutputs(kernel, { shape, chunks, ...sizes }, (name) => name.startsWith("t_")) + rows;
    const scratchBytes = scratch.scratchBytes + results;
    if (part === "both") return { ...scratch, scratchBytes: scratchBytes + carried };
    const written = [
      { value: data.dArrived, bytes: bytesOf(data.dArrived), shares: [] },
      { value: data.carried, bytes: carried, shares: isSingle ? [data.dOutput] : [] },
    ];
    return { ...scratch, scratchBytes, written };
  },
  decode: asBound,
  "decode'": ({ data: { forward, dRows } }, sizes) => ofTokens(forward.shape, dRows, sizes),
  sum: asBound,
  statistics: asBound,
  "reduce-scatter": wireBuffers,
  "reduce-sum": asBound,
  "all-gather": wireBuffers,
  update: asBound,
};

/** Halves of a piece on the way out, and of all pieces on the way in. */
function wireBuffers({ data: { wire }, work }: OperatorOf<"reduce-scatter" | "all-gather">): Exceptions {
  return wire === "bf16" ? { scratchBytes: 2 * work.bytes } : {};
}

export function footprint(
  op: Operator,
  program: Program,
  { symbols, spread }: Pick<Sizes, "symbols" | "spread">,
): Footprint {
  const boundOf = (value: number): number => program.values[value].bytes;
  const rule = applyRule(FOOTPRINTS, op, { symbols, spread, boundOf });
  const { written = [], scratchBytes = 0, engineBytes = 0 } = rule;
  const known = new Map(written.map((w) => [w.value, w]));
  return {
    written: op.writes.map((value) => known.get(value) ?? { value, bytes: boundOf(value), shares: [] }),
    scratchBytes,
    engineBytes,
  };
}

type Scratch = Omit<Footprint, "written">;

function scratchOf({ handedBytes, graphBytes }: KernelMemory): Scratch {
  return { scratchBytes: handedBytes, engineBytes: graphBytes };
}

/** Rows of a rank's tokens, as a share of the most they could be: what goes to zero experts takes none. */
function tokenShare({ activeExperts, topK }: MoeShape, spread: Spread): number {
  return spread === "even" ? activeExperts / topK : 1;
}

/** Rows at a rank's experts, as a multiple of the most that its tokens could have. */
function rowShare(shape: MoeShape, spread: Spread): number {
  return spread === "even" ? tokenShare(shape, spread) : shape.epSize;
}

/** Values that hold the rows of a rank's tokens. */
function ofTokens(shape: MoeShape, values: readonly number[], { spread, boundOf }: Sizes): Exceptions {
  const share = tokenShare(shape, spread);
  return { written: values.map((value) => ({ value, bytes: boundOf(value) * share, shares: [] })) };
}

/** Where rows are at experts, and how they were routed. */
type Routed = Pick<ChunkData, "shape" | "chunks"> & Pick<Sizes, "symbols" | "spread">;

/** Rows of a chunk at a rank's experts. */
function rowsAtExperts({ shape, chunks, symbols, spread }: Routed): number {
  return (((symbols.get("T") as number) * shape.topK) / chunks) * rowShare(shape, spread);
}

/** Bytes of those of a kernel's outputs that are kept for all rows of a chunk. */
function rowOutputs(kernel: Kernel, at: Routed, isWanted: (name: string) => boolean): number {
  const rows = new Map([["R", Math.ceil(rowsAtExperts(at))]]);
  const wanted = kernel.outputs.filter(({ name }) => isWanted(name));
  return wanted.reduce((sum, { expr }) => sum + elementBytes(expr, rows), 0);
}

/** Experts run one at a time, each on its share of the rows. */
function oneExpert(
  kernel: Kernel,
  { shape, chunks }: Pick<ChunkData, "shape" | "chunks">,
  { symbols, spread }: Sizes,
): Scratch {
  const local = shape.numExperts / shape.epSize;
  const rows = rowsAtExperts({ shape, chunks, symbols, spread }) / (spread === "even" ? local : 1);
  return scratchOf(kernelMemory(kernel, new Map([["R", Math.ceil(rows)]])));
}
