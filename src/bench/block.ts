/**
 * One pre-norm block (attention, MLP) forward and backward on one thread, beside the matrix products that a block
 * cannot do without: how close is the block to the engine's own rate?
 */
import { nowMs } from "../core/clock.js";
import { InputError } from "../core/errors.js";
import { philox } from "../core/rng.js";
import { type Tensor, numElements } from "../core/tensor.js";
import type { Arena } from "../engine/arena.js";
import type { Engine } from "../engine/engine.js";
import * as k from "../kernel/build.js";
import { type Differentiated, differentiate } from "../kernel/differentiate.js";
import type { Kernel } from "../kernel/kernel.js";
import { type Symbols, concreteDims } from "../kernel/symbols.js";
import { resolveModel } from "../model/config.js";
import { structureOf } from "../model/structure.js";
import { median } from "../core/statistics.js";

export interface BlockOptions {
  readonly width: number;
  readonly heads: number;
  readonly sequence: number;
  readonly batch: number;
  readonly rounds: number;
  readonly style: "gpt" | "llama";
}

export interface BlockResult extends BlockOptions {
  /** Medians over rounds, and the fastest round. */
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly totalMs: number;
  readonly fastestMs: number;
  /** Counted as peers count: attention over all keys, backward twice forward. */
  readonly gflop: number;
  readonly gflopPerSecond: number;
  /** The block's linear layers as bare matrix products x·Wᵀ, in the same rounds. */
  readonly gemmGflopPerSecond: number;
  readonly shareOfGemm: number;
}

const WARM_UP_ROUNDS = 3;
const ARENA_BYTES = 2 ** 31;

export function benchBlock(engine: Engine, options: BlockOptions): BlockResult {
  const { width: D, sequence: S, batch: B } = options;
  const T = B * S;
  const config = resolveModel({
    arch: "dense",
    style: options.style,
    vocab_size: 256,
    hidden_size: D,
    intermediate_size: 4 * D,
    num_attention_heads: options.heads,
    num_hidden_layers: 1,
    max_position_embeddings: S,
  });
  const memory = new Values(engine, new Map(Object.entries({ T, B })));
  const [{ attention, mlp }] = structureOf(config).blocks;
  const kernels = [attention.kernel(S), ...(mlp === undefined ? [] : [mlp.kernel()])];
  const halves = kernels.map((kernel) => prepare(engine, differentiate(kernel), memory));
  const matrices = config.style === "gpt" ? 2 : 3;
  const products = [
    [3 * D, D],
    [D, D],
    ...Array.from({ length: matrices - 1 }, () => [4 * D, D]),
    [D, 4 * D],
  ].map(([out, inn]) => {
    const y = k.linear(k.input("x", ["T", inn]), k.parameter("w", [out, inn]));
    const kernel = k.kernel("product", { y });
    const bound = memory.bind(kernel, {});
    const executable = engine.compile(kernel);
    return { flop: 2 * T * out * inn, run: () => executable.run(bound) };
  });

  const times: { forward: number; backward: number; products: number }[] = [];
  for (let round = 0; round < WARM_UP_ROUNDS + options.rounds; round++) {
    const t0 = nowMs();
    for (const half of halves) half.forward();
    const t1 = nowMs();
    for (const half of [...halves].reverse()) half.backward();
    const t2 = nowMs();
    for (const product of products) product.run();
    const t3 = nowMs();
    if (round >= WARM_UP_ROUNDS) times.push({ forward: t1 - t0, backward: t2 - t1, products: t3 - t2 });
  }
  const linear = products.reduce((sum, product) => sum + product.flop, 0);
  const gflop = (3 * (linear + 4 * T * S * D)) / 1e9;
  const totals = times.map((t) => t.forward + t.backward);
  const totalMs = median(totals);
  const gflopPerSecond = gflop / (totalMs / 1e3);
  const gemmGflopPerSecond = linear / 1e6 / median(times.map((t) => t.products));
  return {
    ...options,
    forwardMs: median(times.map((t) => t.forward)),
    backwardMs: median(times.map((t) => t.backward)),
    totalMs,
    fastestMs: Math.min(...totals),
    gflop,
    gflopPerSecond,
    gemmGflopPerSecond,
    shareOfGemm: gflopPerSecond / gemmGflopPerSecond,
  };
}

function prepare(
  engine: Engine,
  { forward, backward }: Differentiated,
  memory: Values,
): { forward: () => void; backward: () => void } {
  const given = memory.bind(forward, {});
  const both = memory.bind(backward, given);
  const [f, b] = [engine.compile(forward), engine.compile(backward)];
  return { forward: () => f.run(given), backward: () => b.run(both) };
}

/** Tensors filled with small normal numbers, by name. */
class Values {
  readonly #arena: Arena;

  constructor(
    engine: Engine,
    readonly symbols: Symbols,
  ) {
    this.#arena = engine.newArena(ARENA_BYTES, "block");
  }

  bind(kernel: Kernel, given: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
    const bound: Record<string, Tensor> = { ...given };
    for (const { name, expr } of kernel.inputs) bound[name] ??= this.#make(name, expr.dims);
    for (const { name, expr, aliasOf } of kernel.outputs)
      bound[name] ??= aliasOf === undefined ? this.#make(name, expr.dims) : bound[aliasOf];
    return bound;
  }

  #make(name: string, symbolic: Kernel["inputs"][number]["expr"]["dims"]): Tensor {
    const dims = concreteDims(symbolic, this.symbols);
    const data = this.#arena.tryF32(numElements(dims));
    if (data === undefined)
      throw new InputError(
        `The tensors of this block need more than ${ARENA_BYTES / 2 ** 30} GiB: ${name} [${dims.join(", ")}] has no place; take a smaller batch, sequence or width`,
      );
    philox(1, name).fillNormal(data, 0, 0.05);
    return { data, dims };
  }
}
