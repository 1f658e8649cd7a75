import type { Tensor } from "../../core/tensor.js";
import type * as K from "../../program/kinds.js";
import type { Operator } from "../../program/operator.js";
import type { RunContext } from "../context.js";

/** Position of each token row in its sequence, [T]. */
export function positions(numTokens: number, sequence: number): Int32Array {
  return Int32Array.from({ length: numTokens }, (_, t) => t % sequence);
}

export function runEmbed(op: Operator, context: RunContext, sequence: number): void {
  const data = op.data as K.EmbedData;
  const tokens = context.read<Tensor<Int32Array>>(data.tokens).data;
  const table = context.parameters.weight(data.embedding);
  const width = widthOf(context, data.embedding);
  const out = context.writeTensor(data.output, [tokens.length, width]).data;
  context.engine.routines.gatherRows(out, table, tokens, width);
  if (data.positions === undefined) return;
  const added = context.memory.allocate(out.length);
  context.engine.routines.gatherRows(
    added.f32,
    context.parameters.weight(data.positions),
    positions(tokens.length, sequence),
    width,
  );
  context.engine.routines.addInto(out, added.f32);
  context.memory.release(added);
}

/** Rows are added in token order: one order on any schedule. */
export function runEmbedBackward(op: Operator, context: RunContext, sequence: number): void {
  const data = op.data as K.EmbedData;
  const tokens = context.read<Tensor<Int32Array>>(data.tokens).data;
  const gradient = context.tensor(data.output).data;
  const width = widthOf(context, data.embedding);
  const { routines } = context.engine;
  routines.scatterAddRows(context.parameters.gradient(data.embedding), gradient, tokens, width);
  if (data.positions === undefined) return;
  routines.scatterAddRows(
    context.parameters.gradient(data.positions),
    gradient,
    positions(tokens.length, sequence),
    width,
  );
}

function widthOf(context: RunContext, name: string): number {
  return context.parameters.find(name).tensor.info.dims[1];
}
