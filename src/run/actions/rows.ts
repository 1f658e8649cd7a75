/** Encode and decode: token rows into one region per destination, and the inverse. Layouts: `moe/layout.ts`. */
import { numElements } from "../../core/tensor.js";
import type * as K from "../../program/kinds.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type RunContext, type Services, computing } from "../context.js";
import type { RoutingValue } from "./gate.js";

/** Rows with the first row of each peer's region. */
export interface RowBuffer {
  readonly rows: Float32Array;
  readonly starts: readonly number[];
}

export function bindEncode({ data }: OperatorOf<"encode">, { engine, memory }: Services): Run {
  const { shape, chunk, chunks } = data;
  return computing((context) => {
    const side = context.read<RoutingValue>(data.routing).side(shape, chunk, chunks);
    const rows = memory.allocate(side.numRows * shape.width);
    engine.routines.gatherRows(rows.f32, context.tensor(data.input).data, side.token, shape.width);
    context.write(data.send, { rows: rows.f32, starts: side.regionStart } satisfies RowBuffer, [rows]);
  });
}

/** dInput[t] = Σ over kept choices of the row's gradient, choices ascending. */
export function bindEncodeBackward({ data }: OperatorOf<"encode'">, { engine }: Services): Run {
  const { width, topK } = data.shape;
  return computing((context) => {
    const { routing, side: sideOf } = context.read<RoutingValue>(data.routing);
    const out = context.writeTensor(data.dInput, [routing.numTokens, width]);
    out.data.fill(0);
    data.dSend.forEach((value, chunk) => {
      const { start, end, rowOf } = sideOf(data.shape, chunk, data.chunks);
      const [T, part] = [end - start, out.data.subarray(start * width, end * width)];
      const { rows } = context.read<RowBuffer>(value);
      const dims = { T, K: topK, width };
      engine.routines.combineRows(part, part, rows, rowOf, ones(T * topK), undefined, dims);
    });
  });
}

const onesCache = new Map<number, Float32Array>();
function ones(length: number): Float32Array {
  let array = onesCache.get(length);
  if (array === undefined) onesCache.set(length, (array = new Float32Array(length).fill(1)));
  return array;
}

export function bindDecode({ data }: OperatorOf<"decode">, { engine }: Services): Run {
  return computing((context) => {
    const base = context.tensor(data.base);
    const out = context.writeTensor(data.output, base.dims).data;
    for (const c of chunksOf(data, context)) {
      const [to, from] = [c.tokens(out), c.tokens(base.data)];
      engine.routines.combineRows(to, from, c.rows, c.rowOf, c.weights, c.scale, c.dims);
    }
    const zero = zeroExpertsOf(data, context);
    if (zero !== undefined)
      engine.routines.combineRows(out, out, zero.rows, zero.rowOf, zero.weights, zero.scale, zero.dims);
  });
}

export function bindDecodeBackward({ data }: OperatorOf<"decode'">, { engine, memory }: Services): Run {
  const { forward, dOutput, dRows, dWeights, dScale, dIdentity } = data;
  const K = forward.shape.topK;
  return computing((context) => {
    const dOut = context.tensor(dOutput).data;
    const weights = context.tensor(forward.weights);
    const dW = context.writeTensor(dWeights, weights.dims).data;
    const dS = dScale === undefined ? undefined : context.writeTensor(dScale, [weights.dims[0], 1]).data;
    for (const c of chunksOf(forward, context)) {
      const gradient = memory.allocate(c.rows.length);
      const dRow = { rows: gradient.f32, starts: c.starts } satisfies RowBuffer;
      context.write(dRows[c.chunk], dRow, [gradient]);
      engine.routines.combineRowsGrad(
        gradient.f32,
        dW.subarray(c.start * K, c.end * K),
        dS?.subarray(c.start, c.end),
        c.tokens(dOut),
        c.rows,
        c.rowOf,
        c.weights,
        c.scale,
        c.dims,
      );
    }
    const zero = zeroExpertsOf(forward, context);
    if (zero === undefined || dIdentity === undefined) return;
    const { rows, rowOf, weights: sums, scale, dims, routing } = zero;
    const dRow = context.writeTensor(dIdentity, [dims.T, dims.width]).data.fill(0);
    const [dSums, dScales] = [new Float32Array(dims.T), dS && new Float32Array(dims.T)];
    engine.routines.combineRowsGrad(dRow, dSums, dScales, dOut, rows, rowOf, sums, scale, dims);
    routing.choice.forEach((expert, i) => {
      if (expert >= routing.numExperts) dW[i] = dSums[Math.floor(i / K)];
    });
    if (dS !== undefined && dScales !== undefined) engine.routines.addInto(dS, dScales);
  });
}

/** What decode and its derivative work on, chunk by chunk; `tokens` gives the chunk's rows of a [T, D] array. */
function* chunksOf(data: K.DecodeData, context: RunContext) {
  const { width, topK } = data.shape;
  const routing = context.read<RoutingValue>(data.routing);
  const weights = context.tensor(data.weights).data;
  const scale = data.scale === undefined ? undefined : context.tensor(data.scale).data;
  for (let chunk = 0; chunk < data.chunks; chunk++) {
    const { start, end, rowOf } = routing.side(data.shape, chunk, data.chunks);
    yield {
      chunk,
      start,
      end,
      rowOf,
      ...context.read<RowBuffer>(data.rows[chunk]),
      weights: weights.subarray(start * topK, end * topK),
      scale: scale?.subarray(start, end),
      dims: { T: end - start, K: topK, width },
      tokens: (array: Float32Array) => array.subarray(start * width, end * width),
    };
  }
}

/**
 * What decode adds for zero experts: each token's own row of the gate's input, times the sum of its weights for them. As one
 * choice per token, row t or none, it is added like the rows of experts.
 */
function zeroExpertsOf({ shape, identity, ...data }: K.DecodeData, context: RunContext) {
  if (identity === undefined) return undefined;
  const { routing } = context.read<RoutingValue>(data.routing);
  const { numTokens: T, topK, choice, numExperts } = routing;
  const all = context.tensor(data.weights).data;
  const rowOf = new Int32Array(T).fill(-1);
  const weights = new Float32Array(T);
  for (let t = 0; t < T; t++) {
    let sum = 0;
    for (let i = t * topK; i < (t + 1) * topK; i++) {
      if (choice[i] < numExperts) continue;
      rowOf[t] = t;
      sum += all[i];
    }
    weights[t] = sum;
  }
  return {
    routing,
    rowOf,
    weights,
    rows: context.tensor(identity).data,
    scale: data.scale === undefined ? undefined : context.tensor(data.scale).data,
    dims: { T, K: 1, width: shape.width },
  };
}

/** out = a + b + … in the order of the operands. */
export function bindSum({ name, data }: OperatorOf<"sum">, { engine }: Services): Run {
  return computing((context) => {
    const [first, second, ...rest] = data.operands.map((value) => context.tensor(value));
    const out = context.writeTensor(data.output, first.dims).data;
    engine.routines.add(out, first.data, second.data);
    for (const operand of rest) {
      if (operand.data.length !== numElements(first.dims))
        throw new Error(`${name}: operands differ in size`);
      engine.routines.addInto(out, operand.data);
    }
  });
}
