/** Memory of each kind of operator: what it writes, and what it needs beside that while it runs. */
import type { Kernel } from "../kernel/kernel.js";
import type { Symbols } from "../kernel/symbols.js";
import { elementBytes, workspaceBytes } from "../kernel/workspace.js";
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
  /** Intermediate results. */
  readonly scratchBytes: number;
}

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
  { data: { kernel, outputs } }: OperatorOf<"kernel" | "kernel'">,
  { symbols }: Sizes,
): Exceptions => ({
  written: kernel.outputs.flatMap(({ name, expr, aliasOf }) =>
    aliasOf !== undefined || outputs[name] === undefined
      ? []
      : [{ value: outputs[name], bytes: elementBytes(expr, symbols), shares: [] }],
  ),
  scratchBytes: workspaceBytes(kernel, symbols),
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
  // One rank sends to itself: the same memory under another name.
  transfer: ({ data: { shape, input, output } }) =>
    shape.epSize === 1 ? { written: [{ value: output, bytes: 0, shares: [input] }] } : {},
  expert({ data: { kernel, saved, shape, chunks, arrived } }, { symbols, boundOf }) {
    const scratchBytes = oneExpert(kernel, shape, chunks, symbols);
    if (saved === undefined) return { scratchBytes };
    const rows = new Map([["R", Math.ceil((tokens(symbols) * shape.topK) / chunks)]]);
    const activations = kernel.outputs
      .filter((output) => output.name !== "y")
      .reduce((sum, { expr }) => sum + elementBytes(expr, rows), 0);
    const isSingle = shape.epSize === 1;
    const bytes = activations + (isSingle ? 0 : boundOf(arrived));
    return { scratchBytes, written: [{ value: saved, bytes, shares: isSingle ? [arrived] : [] }] };
  },
  "expert'": ({ data: { kernel, forward } }, { symbols }) => ({
    scratchBytes: oneExpert(kernel, forward.shape, forward.chunks, symbols),
  }),
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
  const { written = [], scratchBytes = 0 } = applyRule(FOOTPRINTS, op, { symbols, boundOf });
  const known = new Map(written.map((w) => [w.value, w]));
  return {
    written: op.writes.map((value) => known.get(value) ?? { value, bytes: boundOf(value), shares: [] }),
    scratchBytes,
  };
}

/** Experts run one at a time, each on its share of the rows. */
function oneExpert(kernel: Kernel, { topK, numExperts }: MoeShape, chunks: number, symbols: Symbols): number {
  const rows = (tokens(symbols) * topK) / chunks / numExperts;
  return workspaceBytes(kernel, new Map([["R", Math.ceil(rows)]]));
}

function tokens(symbols: Symbols): number {
  return symbols.get("T") as number;
}
