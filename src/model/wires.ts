/** A model's program under construction: its builder and kernels, and the methods with which all parts of a wiring add operators. */
import type { Kernel } from "../kernel/kernel.js";
import type { Symbols } from "../kernel/symbols.js";
import { kernelWork } from "../kernel/work.js";
import { ProgramBuilder } from "../program/builder.js";
import type { Part } from "./parts/part.js";

/** Sizes of a micro-batch on one rank, and how its rows travel. */
export interface WireOptions {
  readonly batch: number;
  readonly sequence: number;
  readonly epSize: number;
  /** All ranks, for traffic estimates; default the expert-parallel ones. */
  readonly ranks?: number;
  /** Chunks of the token rows in dispatch → expert → combine (pipelined policies); 1 = whole. */
  readonly chunks?: number;
  readonly wire?: "f32" | "bf16";
  /** Attention that reads its rows' positions: sequences may be shorter than `sequence`. Default false. */
  readonly anyLength?: boolean;
  /**
   * Rows join a cache of so many rows per sequence, and see what is in it; of any length, each sequence at positions of its own. For
   * estimates the cache is taken to be full. Default: no cache.
   */
  readonly cache?: number;
  /** A document sees nothing of those before it in its sequence, and its positions start at 0 (method 2.5). Default false. */
  readonly documents?: boolean;
  /**
   * Kernels that were made for programs of the same model and sequence length: equal parts share them, and what is derived
   * from them, too. Those made now are added. Default: none.
   */
  readonly kernels?: Map<string, Kernel> | undefined;
}

/** Where a block's attention keeps the keys and values of earlier rows: states of the program, [B, heads, C, width]. */
export interface BlockCache {
  readonly layer: number;
  readonly heads: number;
  readonly width: number;
  readonly keys: number;
  /** Undefined where values are part of the keys. */
  readonly values?: number | undefined;
}

/** Adds operators and values to a program; what it has built so far is in `builder`. */
export class Wires {
  readonly builder = new ProgramBuilder();
  /** Tokens of a micro-batch on one rank, T. */
  readonly tokens: number;
  /** Sizes that the kernels' expressions leave open. */
  readonly symbols: Symbols;
  /** Values that gate noise is fed to, in the order of the gates. */
  readonly noise: number[] = [];
  /** In the order of the blocks. */
  readonly caches: BlockCache[] = [];
  readonly #kernels: Map<string, Kernel>;

  constructor(
    readonly width: number,
    readonly options: WireOptions,
  ) {
    const { batch, sequence, anyLength, cache } = options;
    this.#kernels = options.kernels ?? new Map<string, Kernel>();
    this.tokens = batch * sequence;
    this.symbols = new Map([
      ["T", this.tokens],
      ["B", batch],
      ...(anyLength || cache !== undefined ? [["S", sequence] as const] : []),
      ...(cache === undefined ? [] : [["C", cache] as const]),
    ]);
  }

  /** A value of [T, D] activations. */
  rows(name: string): number {
    return this.builder.value(name, this.tokens * this.width * 4);
  }

  /** The kernel of a part; equal parts share one. */
  kernelOf<A extends readonly unknown[]>(part: Part<A>, options: A): Kernel {
    const key = JSON.stringify([part.class, part.shape, options]);
    let kernel = this.#kernels.get(key);
    if (kernel === undefined) this.#kernels.set(key, (kernel = part.kernel(...options)));
    return kernel;
  }

  /** An operator that runs a part's kernel over all tokens. */
  part<A extends readonly unknown[]>(
    name: string,
    part: Part<A>,
    options: A,
    bound: {
      readonly layer?: number;
      readonly branch?: string;
      readonly inputs: Readonly<Record<string, number>>;
      readonly outputs: Readonly<Record<string, number>>;
    },
  ): void {
    const { layer, branch, inputs, outputs } = bound;
    const kernel = this.kernelOf(part, options);
    this.builder.add({
      name,
      kind: "kernel",
      layer,
      branch,
      reads: Object.values(inputs),
      writes: Object.values(outputs),
      work: { class: part.class, ...kernelWork(kernel, this.symbols) },
      data: { kernel, inputs, outputs, parameters: part.spans },
    });
  }
}
