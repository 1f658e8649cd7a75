/** Operators that will be one kernel: which may still join. */
import { assert } from "../core/errors.js";
import { numElements } from "../core/tensor.js";
import * as k from "../kernel/build.js";
import { topological } from "../kernel/topological.js";
import type { Dim, Kernel } from "../kernel/kernel.js";
import type { Bits } from "./fusion-order.js";
import type { KernelData } from "./kinds.js";
import type { Operator, OperatorOf } from "./operator.js";
import type { Program } from "./program.js";

/** An operator that can be part of a kernel, as a kernel. */
export interface Fusable {
  readonly op: Operator;
  readonly data: KernelData;
  /** Equal for those that may be fused, as far as transfers go. */
  readonly waits: string;
  /** Experts that have a choice of places before and after this operator. */
  readonly beside: Bits;
}

/**
 * Sums as kernels, where some kernel says how their values are shaped.
 * @returns by operator id; kernels as they are
 */
export function kernelsOf({ operators }: Program): readonly (KernelData | undefined)[] {
  const dimsOf = new Map<number, readonly Dim[]>();
  for (const op of operators)
    if (op.kind === "kernel")
      for (const [value, dims] of shapesOf(op.data)) if (!dimsOf.has(value)) dimsOf.set(value, dims);
  const sums = new Map<string, Kernel>();
  const asKernel = ({ data: { operands, output } }: OperatorOf<"sum">): KernelData | undefined => {
    const dims = [...operands, output].map((value) => dimsOf.get(value)).find((known) => known !== undefined);
    if (dims === undefined) return undefined;
    for (const value of [...operands, output]) if (!dimsOf.has(value)) dimsOf.set(value, dims);
    const key = `${operands.length}: ${dims.join()}`;
    let kernel = sums.get(key);
    if (kernel === undefined) sums.set(key, (kernel = sumKernel(operands.length, dims)));
    const inputs = Object.fromEntries(operands.map((value, i) => [`a${i}`, value]));
    return { kernel, inputs, outputs: { sum: output }, parameters: {} };
  };
  return operators.map((op) =>
    op.kind === "kernel" ? op.data : op.kind === "sum" ? asKernel(op) : undefined,
  );
}

/** Left to right, as the operator adds. */
function sumKernel(count: number, dims: readonly Dim[]): Kernel {
  const operands = Array.from({ length: count }, (_, i) => k.input(`a${i}`, dims));
  return k.kernel("sum", { sum: operands.reduce((a, b) => k.add(a, b)) });
}

/** Shapes of what a kernel reads and writes, by value. */
function shapesOf({ kernel, inputs, outputs }: KernelData): (readonly [number, readonly Dim[]])[] {
  const bound = (list: Kernel["inputs"] | Kernel["outputs"], values: KernelData["inputs"]) =>
    list.flatMap(({ name, expr }) =>
      values[name] === undefined ? [] : [[values[name], expr.dims] as const],
    );
  return [...bound(kernel.inputs, inputs), ...bound(kernel.outputs, outputs)];
}

/** Tokens, sequences and rows of a sequence: there are none of all, or some of all. */
const TOKEN_SYMBOLS = new Set(["T", "B", "S"]);

/**
 * Other symbols in what a kernel writes anew: rows that there may be none of while there are tokens. A kernel computes nothing where it has
 * no rows of one kind, so those that make rows of different kinds stay apart.
 */
function kindsOfRows({ kernel }: KernelData): string {
  const found = new Set<string>();
  for (const { expr, aliasOf } of kernel.outputs)
    if (aliasOf === undefined)
      for (const dim of expr.dims)
        if (typeof dim === "string")
          for (const term of dim.split("+")) if (Number.isNaN(Number(term))) found.add(term);
  return [...found]
    .filter((symbol) => !TOKEN_SYMBOLS.has(symbol))
    .sort()
    .join();
}

/** The size that a value's bytes give the only symbol of its dims; undefined where they tell none. */
function impliedSize(bytes: number, dims: readonly Dim[]): readonly [string, number] | undefined {
  const symbols = dims.filter((dim) => typeof dim === "string");
  if (symbols.length !== 1 || symbols[0].includes("+")) return undefined;
  const size = bytes / 4 / numElements(dims.filter((dim) => typeof dim === "number"));
  return Number.isInteger(size) && size > 0 ? [symbols[0], size] : undefined;
}

/** Inputs that a kernel writes over. */
function writtenInPlace({ kernel, inputs }: KernelData): number[] {
  return kernel.outputs.flatMap(({ aliasOf }) =>
    aliasOf === undefined || inputs[aliasOf] === undefined ? [] : [inputs[aliasOf]],
  );
}

const opsOf = new WeakMap<Kernel, number>();

function numOps(kernel: Kernel): number {
  let found = opsOf.get(kernel);
  if (found === undefined) opsOf.set(kernel, (found = topological(kernel.outputs.map((o) => o.expr)).length));
  return found;
}

export class KernelRun {
  readonly members: Fusable[] = [];
  readonly #shapes = new Map<number, string>();
  readonly #sizes = new Map<string, number>();
  readonly #spans = new Set<string>();
  readonly #values = new Set<number>();
  readonly #inPlace = new Set<number>();
  #beside: Bits = 0n;
  #weightBytes = 0;
  #ops = 0;

  constructor(
    readonly program: Program,
    readonly limits: { readonly maxWeightBytes: number; readonly maxOps: number },
  ) {}

  /** Whether one more operator, which all of the run may precede, may be part of the kernel. */
  accepts(added: Fusable): boolean {
    if (this.members.length === 0) return true;
    const [first] = this.members;
    const { op, data } = added;
    return (
      first.waits === added.waits &&
      first.op.pass === op.pass &&
      first.op.microBatch === op.microBatch &&
      (this.#beside & added.beside) === 0n &&
      this.#weightBytes + this.#newBytes(data) <= this.limits.maxWeightBytes &&
      this.#ops + numOps(data.kernel) <= this.limits.maxOps &&
      kindsOfRows(first.data) === kindsOfRows(data) &&
      this.#meansTheSame(data) &&
      this.#isSafeInPlace(data)
    );
  }

  add(added: Fusable): void {
    assert(this.accepts(added), `${added.op.name} may be part of the kernel`);
    const { data } = added;
    this.members.push(added);
    this.#beside |= added.beside;
    this.#weightBytes += this.#newBytes(data);
    this.#ops += numOps(data.kernel);
    for (const span of Object.values(data.parameters)) this.#spans.add(span.join());
    for (const [value, dims] of shapesOf(data)) {
      this.#shapes.set(value, dims.join());
      this.#values.add(value);
      const size = impliedSize(this.program.values[value].bytes, dims);
      if (size !== undefined) this.#sizes.set(...size);
    }
    for (const value of writtenInPlace(data)) this.#inPlace.add(value);
  }

  /** Bytes of the parameters that the run does not have yet. */
  #newBytes({ kernel, parameters }: KernelData): number {
    let bytes = 0;
    for (const { name, expr } of kernel.inputs) {
      const span = parameters[name];
      if (span !== undefined && !this.#spans.has(span.join()))
        bytes += 4 * numElements(expr.dims as number[]);
    }
    return bytes;
  }

  /** Whether a value is shaped alike for all, and a symbol has one size. */
  #meansTheSame(data: KernelData): boolean {
    return shapesOf(data).every(([value, dims]) => {
      const known = this.#shapes.get(value);
      if (known !== undefined && known !== dims.join()) return false;
      const [symbol, size] = impliedSize(this.program.values[value].bytes, dims) ?? [];
      return symbol === undefined || (this.#sizes.get(symbol) ?? size) === size;
    });
  }

  /** Within a kernel nothing says who comes first: no other member may touch what one writes over. */
  #isSafeInPlace(data: KernelData): boolean {
    const reads = Object.values(data.inputs);
    return (
      writtenInPlace(data).every((value) => !this.#values.has(value)) &&
      reads.every((value) => !this.#inPlace.has(value))
    );
  }
}
