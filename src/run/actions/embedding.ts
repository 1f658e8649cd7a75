import type { Tensor } from "../../core/tensor.js";
import type { LearnedPositions } from "../../program/kinds.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type RunContext, type Services, computing } from "../context.js";

export function bindEmbed({ data }: OperatorOf<"embed">, services: Services): Run {
  const { engine, memory, weights } = services;
  const width = weights.dims(data.embedding)[1];
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
  const width = weights.dims(data.embedding)[1];
  return computing((context) => {
    const tokens = context.read<Tensor<Int32Array>>(data.tokens).data;
    const gradient = context.tensor(data.gradient).data;
    const add = (parameter: string, rows: Float32Array, index: Int32Array): void => {
      if (gradients !== undefined)
        engine.routines.scatterAddRows(gradients.gradient(parameter), rows, index, width);
    };
    for (const [start, end] of runsWithout(tokens, data.padding))
      add(data.embedding, gradient.subarray(start * width, end * width), tokens.subarray(start, end));
    if (data.positions !== undefined)
      add(data.positions.table, gradient, positionsOf(context, tokens.length, data.positions));
  });
}

/** Ranges [start, end) of neighbouring tokens none of which is the one left out; empty where all are. */
function runsWithout(tokens: Int32Array, left: number | undefined): [number, number][] {
  if (left === undefined) return [[0, tokens.length]];
  const runs: [number, number][] = [];
  for (let start = 0; start < tokens.length; start++) {
    let end = tokens.indexOf(left, start);
    if (end < 0) end = tokens.length;
    if (end > start) runs.push([start, end]);
    start = end;
  }
  return runs;
}

/** Position of each token row in its sequence, or in its document where those are told apart, [T]. */
function positionsOf(
  context: RunContext,
  numTokens: number,
  { period, starts, at }: LearnedPositions,
): Int32Array {
  if (at !== undefined) return context.read<Tensor<Int32Array>>(at).data;
  const places = Int32Array.from({ length: numTokens }, (_, t) => t % period);
  if (starts === undefined) return places;
  const first = context.read<Tensor<Int32Array>>(starts).data;
  return places.map((place, t) => place - first[t]);
}
