/** The sub-layers of a block that are not routed, each with its norm and residual: attention, dense MLP, shared expert. */
import type { Kernel } from "../kernel/kernel.js";
import { elementBytes } from "../kernel/workspace.js";
import type { AttentionForm } from "./parts/attention-frame.js";
import type { Part } from "./parts/part.js";
import type { Residual } from "./parts/residual.js";
import type { BlockParts } from "./structure.js";
import type { Wires } from "./wires.js";

/** What a sub-layer reads, and where its result goes. */
export interface SublayerInput {
  readonly layer: number;
  /** The stream that is read, [T, D]. */
  readonly x: number;
  /** The stream that the result is added to, [T, D]; default `x`. A sub-layer that reads `x` does not wait for another one. */
  readonly base?: number | undefined;
}

/** Values that the attention of all blocks reads beside the stream. */
export interface AttentionInputs {
  /** Where attention is of any length the rows' positions, [S], or with a cache [B, 1, S]. */
  readonly positions?: number | undefined;
  /** Where documents are told apart, where in its sequence each row's document begins, [B, S]. */
  readonly starts?: number | undefined;
  /** With a cache the place of each sequence's last row, [B], and the rows of the longest, [1]. */
  readonly last?: number | undefined;
  readonly total?: number | undefined;
}

/** What a block's part reads. */
export interface BlockInput extends SublayerInput {
  readonly beside?: AttentionInputs | undefined;
}

/**
 * A block's attention with its norm and residual.
 * @returns the stream after it, [T, D]
 */
export function addAttention(wires: Wires, { attention }: BlockParts, input: BlockInput): number {
  const { layer, x, beside = {} } = input;
  const y = wires.rows(`L${layer}.attention`);
  const given = Object.entries({ x, ...beside }).filter((entry) => entry[1] !== undefined);
  const inputs = Object.fromEntries(given) as Record<string, number>;
  const form: AttentionForm = [
    beside.positions === undefined ? wires.options.sequence : "S",
    beside.last !== undefined
      ? { cache: true }
      : beside.starts !== undefined
        ? { documents: true }
        : undefined,
    residualOf(input),
  ];
  if (beside.last !== undefined)
    Object.assign(inputs, addCache(wires, wires.kernelOf(attention, form), layer));
  wires.part(`L${layer}.attention`, attention, form, { layer, inputs, outputs: { y } });
  return withBase(wires, `L${layer}.attention`, y, input);
}

/** States for the caches that an attention kernel reads, by the names of its inputs. */
function addCache(wires: Wires, kernel: Kernel, layer: number): Record<string, number> {
  const inputs: Record<string, number> = {};
  let shape = { heads: 0, width: 0 };
  for (const { name, expr } of kernel.inputs) {
    if (!name.startsWith("cache_")) continue;
    const [, heads, , width] = expr.dims as [string, number, string, number];
    shape = { heads, width };
    const bytes = elementBytes(expr, wires.symbols);
    inputs[name] = wires.builder.state(`L${layer}.${name}`, bytes);
  }
  wires.caches.push({ layer, ...shape, keys: inputs.cache_k, values: inputs.cache_v });
  return inputs;
}

/**
 * A block's dense MLP with its norm and residual.
 * @returns the stream after it, [T, D]; as it was where the block has none
 */
export function addMlp(wires: Wires, { mlp }: Pick<BlockParts, "mlp">, input: SublayerInput): number {
  const { layer, x, base = x } = input;
  if (mlp === undefined) return base;
  const y = wires.rows(`L${layer}.mlp`);
  wires.part(`L${layer}.mlp`, mlp, [residualOf(input)], { layer, inputs: { x }, outputs: { y } });
  return withBase(wires, `L${layer}.mlp`, y, input);
}

/** The stream with the shared expert's term, and the coefficient of the routed term where the gate gives one (CG-2), [T, 1]. */
export interface SharedOutput {
  readonly y: number;
  readonly scale?: number;
}

/** A block's shared expert with its norm, coefficient gate and residual. */
export function addShared(
  wires: Wires,
  shared: Part<[residual?: Residual]>,
  input: SublayerInput,
): SharedOutput {
  const { layer, x } = input;
  const residual = residualOf(input);
  const hasScale = wires.kernelOf(shared, [residual]).outputs.some(({ name }) => name === "scale");
  const y = wires.rows(`L${layer}.shared`);
  const scale = hasScale ? wires.builder.value(`L${layer}.coefficient`, wires.tokens * 4) : undefined;
  const outputs: Record<string, number> = scale === undefined ? { y } : { y, scale };
  wires.part(`L${layer}.shared`, shared, [residual], { layer, inputs: { x }, outputs });
  return { y: withBase(wires, `L${layer}.shared`, y, input), scale };
}

/** A kernel adds the stream that it reads. Another one is added by an operator of its own, so that the kernel does not wait for it. */
function residualOf({ x, base = x }: SublayerInput): Residual {
  return base === x ? "added" : "apart";
}

function withBase(wires: Wires, name: string, y: number, { layer, x, base = x }: SublayerInput): number {
  if (base === x) return y;
  const output = wires.rows(`${name}.sum`);
  wires.builder.add({
    name: `${name}.sum`,
    kind: "sum",
    layer,
    reads: [base, y],
    writes: [output],
    work: { class: "sum", flops: 0, bytes: 3 * wires.tokens * wires.width * 4 },
    data: { operands: [base, y], output },
  });
  return output;
}
