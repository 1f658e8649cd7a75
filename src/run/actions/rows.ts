/** Encode and decode: token rows into one region per destination, and the inverse. Layouts: `moe/layout.ts`. */
import { numElements } from "../../core/tensor.js";
import type * as K from "../../program/kinds.js";
import type { Operator } from "../../program/operator.js";
import type { RunContext } from "../context.js";
import type { RoutingValue } from "./gate.js";

/** Rows with the first row of each peer's region. */
export interface RowBuffer {
  readonly rows: Float32Array;
  readonly starts: readonly number[];
}

export function runEncode(op: Operator, context: RunContext): void {
  const data = op.data as K.EncodeData;
  const side = context.read<RoutingValue>(data.routing).side(data.shape, data.chunk, data.chunks);
  const { width } = data.shape;
  const block = context.memory.allocate(side.numRows * width);
  context.engine.routines.gatherRows(block.f32, context.tensor(data.input).data, side.token, width);
  context.write(data.send, { rows: block.f32, starts: side.regionStart } satisfies RowBuffer, [block]);
}

/** dInput[t] = Σ over kept choices of the row's gradient, choices ascending. */
export function runEncodeBackward(op: Operator, context: RunContext): void {
  const data = op.data as K.EncodeBackwardData;
  const { routing, side: sideOf } = context.read<RoutingValue>(data.routing);
  const { width, topK } = data.shape;
  const out = context.writeTensor(data.dInput, [routing.numTokens, width]);
  out.data.fill(0);
  data.dSend.forEach((value, chunk) => {
    const side = sideOf(data.shape, chunk, data.chunks);
    const T = side.end - side.start;
    const part = out.data.subarray(side.start * width, side.end * width);
    context.engine.routines.combineRows(
      part,
      part,
      context.read<RowBuffer>(value).rows,
      side.slot,
      ones(T * topK),
      undefined,
      { T, K: topK, width },
    );
  });
}

const onesCache = new Map<number, Float32Array>();
function ones(length: number): Float32Array {
  let array = onesCache.get(length);
  if (array === undefined) onesCache.set(length, (array = new Float32Array(length).fill(1)));
  return array;
}

export function runDecode(op: Operator, context: RunContext): void {
  const data = op.data as K.DecodeData;
  const base = context.tensor(data.base);
  const out = context.writeTensor(data.output, base.dims).data;
  forEachChunk(data, context, (c) =>
    context.engine.routines.combineRows(
      c.tokens(out),
      c.tokens(base.data),
      c.rows,
      c.slot,
      c.weights,
      c.scale,
      c.dims,
    ),
  );
}

export function runDecodeBackward(op: Operator, context: RunContext): void {
  const { forward, dOutput, dRows, dWeights, dScale } = op.data as K.DecodeBackwardData;
  const dOut = context.tensor(dOutput).data;
  const weights = context.tensor(forward.weights);
  const dW = context.writeTensor(dWeights, weights.dims).data;
  const T = weights.dims[0];
  const dS = dScale === undefined ? undefined : context.writeTensor(dScale, [T, 1]).data;
  const K = forward.shape.topK;
  forEachChunk(forward, context, (c, chunk) => {
    const buffer = context.read<RowBuffer>(forward.rows[chunk]);
    const block = context.memory.allocate(buffer.rows.length);
    context.write(dRows[chunk], { rows: block.f32, starts: buffer.starts } satisfies RowBuffer, [block]);
    context.engine.routines.combineRowsGrad(
      block.f32,
      dW.subarray(c.start * K, c.end * K),
      dS?.subarray(c.start, c.end),
      c.tokens(dOut),
      c.rows,
      c.slot,
      c.weights,
      c.scale,
      c.dims,
    );
  });
}

interface DecodeChunk {
  readonly start: number;
  readonly end: number;
  readonly rows: Float32Array;
  readonly slot: Int32Array;
  readonly weights: Float32Array;
  readonly scale: Float32Array | undefined;
  readonly dims: { T: number; K: number; width: number };
  /** The chunk's rows of a [T, D] array. */
  tokens(array: Float32Array): Float32Array;
}

function forEachChunk(
  data: K.DecodeData,
  context: RunContext,
  visit: (c: DecodeChunk, chunk: number) => void,
): void {
  const { width, topK } = data.shape;
  const routing = context.read<RoutingValue>(data.routing);
  const weights = context.tensor(data.weights).data;
  const scale = data.scale === undefined ? undefined : context.tensor(data.scale).data;
  for (let chunk = 0; chunk < data.chunks; chunk++) {
    const { start, end, slot } = routing.side(data.shape, chunk, data.chunks);
    visit(
      {
        start,
        end,
        slot,
        rows: context.read<RowBuffer>(data.rows[chunk]).rows,
        weights: weights.subarray(start * topK, end * topK),
        scale: scale?.subarray(start, end),
        dims: { T: end - start, K: topK, width },
        tokens: (array) => array.subarray(start * width, end * width),
      },
      chunk,
    );
  }
}

/** out = a + b + … in the order of the operands. */
export function runSum(op: Operator, context: RunContext): void {
  const { operands, output } = op.data as K.SumData;
  const [first, second, ...rest] = operands.map((value) => context.tensor(value));
  const out = context.writeTensor(output, first.dims).data;
  context.engine.routines.add(out, first.data, second.data);
  for (const operand of rest) {
    if (operand.data.length !== numElements(first.dims))
      throw new Error(`${op.name}: operands differ in size`);
    context.engine.routines.addInto(out, operand.data);
  }
}
