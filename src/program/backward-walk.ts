/** The state of a walk backwards through a program, and what its rules share. */
import { assert } from "../core/errors.js";
import { type Differentiated, differentiate } from "../kernel/differentiate.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Symbols } from "../kernel/symbols.js";
import { ProgramBuilder } from "./builder.js";
import type { Operator } from "./operator.js";
import type { Program } from "./program.js";

/** What deriving a backward half starts from, and how it splits or repeats work. */
export interface BackwardOptions {
  /** Sizes of the symbols that kernels over all tokens have. */
  readonly symbols: Symbols;
  /** The value that seeds the gradient of each head's losses: head output value id → seed value id. */
  readonly seeds: ReadonlyMap<number, number>;
  /** The value that holds the scales of the auxiliary losses. */
  readonly scales: number;
  /** A value fed with balance statistics, where no operator of the program sums them. */
  readonly statistics?: number;
  /** Values whose gradient nobody wants (program inputs). */
  readonly stopAt?: ReadonlySet<number>;
  /** Splits the backward of kernels and experts into input gradients (critical) and weight gradients (fill gaps). */
  readonly splitWeightGradients?: boolean;
  /** Keep no activations inside a kernel; backward computes them again from the kernel's inputs. */
  readonly recompute?: boolean;
}

export class BackwardWalk {
  readonly builder: ProgramBuilder;
  readonly numRoutings: number;
  readonly #contributions = new Map<number, number[]>();
  readonly #lastWriter = new Map<string, number>();
  /** Routing value → statistics value, when the balance loss counts more than a rank's own tokens. */
  readonly statistics = new Map<number, number>();
  /** Gradients of encoded rows by routing value: chunks are gathered into one backward operator. */
  readonly encodeGradients = new Map<number, number[]>();
  /** Routings that the walk still has before it. */
  #routingsLeft: number;

  constructor(
    forward: Program,
    readonly options: BackwardOptions,
  ) {
    this.builder = new ProgramBuilder(forward);
    this.numRoutings = this.#routingsLeft = forward.operators.filter(({ kind }) => kind === "route").length;
    for (const [value, seed] of options.seeds) this.contribute(value, seed);
    const { statistics } = options;
    for (const op of forward.operators)
      if (op.kind === "route" && statistics !== undefined) this.statistics.set(op.data.routing, statistics);
  }

  /** Index of the routing that the walk has come to. */
  nextRouting(): number {
    return --this.#routingsLeft;
  }

  contribute(value: number, gradient: number): void {
    if (this.options.stopAt?.has(value)) return;
    const list = this.#contributions.get(value);
    if (list) list.push(gradient);
    else this.#contributions.set(value, [gradient]);
  }

  /** The gradient of what an operator has written: its only contribution, or a `sum` operator over all of them. */
  gradientOf(value: number, source: Pick<Operator, "name" | "layer">): number {
    const list = this.#contributions.get(value);
    assert(
      list !== undefined,
      `${this.builder.nameOf(value)}, written by ${source.name}, receives no gradient`,
    );
    if (list.length === 1) return list[0];
    const output = this.gradientValue(value);
    const bytes = this.builder.bytesOf(value);
    // Contributions arrive in reverse program order. The sum keeps that order, which makes its bits independent of the schedule.
    this.builder.add({
      name: `sum d(${this.builder.nameOf(value)})`,
      kind: "sum",
      pass: "backward",
      layer: source.layer,
      reads: list,
      writes: [output],
      work: { class: "sum", flops: 0, bytes: (list.length + 1) * bytes },
      data: { operands: list, output },
    });
    this.#contributions.set(value, [output]);
    return output;
  }

  gradientValue(value: number): number {
    return this.builder.value(`d(${this.builder.nameOf(value)})`, this.builder.bytesOf(value));
  }

  /** Ordering edges so that accumulations into the same parameters happen in one order; records `id` as the last. */
  chain(parameters: Iterable<string>, id: number): readonly number[] {
    const after = new Set<number>();
    for (const name of parameters) {
      const last = this.#lastWriter.get(name);
      if (last !== undefined) after.add(last);
      this.#lastWriter.set(name, id);
    }
    return [...after].sort((a, b) => a - b);
  }

  derivative(kernel: Kernel): Differentiated {
    const save = this.options.recompute ? "none" : "heavy";
    const known = DERIVATIVES.get(kernel) ?? {};
    DERIVATIVES.set(kernel, known);
    return (known[save] ??= differentiate(kernel, { save }));
  }
}

/** Layers of one shape share a kernel, and programs that differ only in their schedule share all of them. */
const DERIVATIVES = new WeakMap<Kernel, Partial<Record<"none" | "heavy", Differentiated>>>();
