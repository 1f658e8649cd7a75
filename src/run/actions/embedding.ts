import type { Tensor } from "../../core/tensor.js";
import type { LearnedPositions } from "../../program/kinds.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type RunContext, type Services, computing } from "../context.js";

export function bindEmbed({ data }: OperatorOf<"embed">, services: Services): Run {
  const { engine, memory, weights } = services;
  const width = weights.find(data.embedding).tensor.info.dims[1];
  const table = weights.weight(data.embedding);
  return computing((context) => {
    const tokens = context.read<Tensor<Int32Array>>(data.tokens).data;
    const out = context.writeTensor(data.output, [tokens.length, width]).data;
    engine.routines.gatherRows(out, table, tokens, width);
    if (data.positions === undefined) return;
    const added = memory.allocate(out.length);
    const learned = weights.weight(data.positions.table);
    const positions = positionsOf(context, tokens.length, data.positions);
    engine.routines.gatherRows(added.f32, learned, positions, width);
    engine.routines.addInto(out, added.f32);
    memory.release(added);
  });
}

/** Rows are added in token order: one order on any schedule. */
export function bindEmbedBackward({ data }: OperatorOf<"embed'">, services: Services): Run {
  const { engine, weights, gradients } = services;
  const width = weights.find(data.embedding).tensor.info.dims[1];
  return computing((context) => {
    const tokens = context.read<Tensor<Int32Array>>(data.tokens).data;
    const gradient = context.tensor(data.gradient).data;
    const add = (parameter: string, index: Int32Array): void => {
      if (gradients !== undefined)
        engine.routines.scatterAddRows(gradients.gradient(parameter), gradient, index, width);
    };
    add(data.embedding, tokens);
    if (data.positions !== undefined)
      add(data.positions.table, positionsOf(context, tokens.length, data.positions));
  });
}

/** Position of each token row in its sequence, or in its document where those are told apart, [T]. */
function positionsOf(
  context: RunContext,
  numTokens: number,
  { period, starts }: LearnedPositions,
): Int32Array {
  const places = Int32Array.from({ length: numTokens }, (_, t) => t % period);
  if (starts === undefined) return places;
  const first = context.read<Tensor<Int32Array>>(starts).data;
  return places.map((place, t) => place - first[t]);
}
