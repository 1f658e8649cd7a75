/** Encode, dispatch, combine, decode: the routed rows' way to the experts and back. Layouts: `moe/layout.ts`. */
import type { Slots } from "../../comm/communicator.js";
import { numElements } from "../../core/tensor.js";
import {
  type ExpertSide,
  chunkRange,
  expertSide,
  headerRows,
  localExperts,
  maxRowsPerPeer,
  packedStarts,
  rowBytes,
} from "../../moe/layout.js";
import type * as K from "../../program/kinds.js";
import type { Operator } from "../../program/program.js";
import type { NetworkJob, RunContext } from "../context.js";
import type { Block } from "../memory.js";
import type { RoutingValue } from "./gate.js";

/** Rows with the first row of each peer's region. */
export interface RowBuffer {
  readonly rows: Float32Array;
  /** First row of each peer's rows, headers skipped. */
  readonly starts: readonly number[];
}

export function runEncode(op: Operator, context: RunContext): void {
  const data = op.data as K.EncodeData;
  const side = context.read<RoutingValue>(data.routing).side(data.shape, data.chunk, data.chunks);
  const { width } = data.shape;
  const block = context.memory.allocate(side.numRows * width);
  // Header rows name no token: gather token 0 there, the dispatch writes the counts over it.
  const index = side.token.some((token) => token < 0)
    ? side.token.map((token) => Math.max(0, token))
    : side.token;
  context.engine.routines.gatherRows(block.f32, context.tensor(data.input).data, index, width);
  context.write(data.send, tokenRows(block, side.regionStart, data.shape), [block]);
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

/**
 * Dispatch, combine and their derivatives: one ragged all-to-all. On one rank nothing moves: the output is the input's
 * memory. With bf16 on the wire, rows are rounded before and widened after; counts stay exact.
 */
export function runTransfer(op: Operator, context: RunContext): NetworkJob | undefined {
  const data = op.data as K.TransferData;
  const { shape } = data;
  const routing = context.read<RoutingValue>(data.routing);
  const side = routing.side(shape, data.chunk, data.chunks);
  if (shape.epSize === 1) {
    if (data.header) context.write(data.counts, expertSide([side.counts]), []);
    const blocks = context.share(data.input);
    context.write(data.output, context.read<RowBuffer>(data.input), blocks);
    return undefined;
  }
  const header = headerRows(shape);
  const local = localExperts(shape);
  const tokenRowsTo = side.regionStart.map((_, peer) =>
    sum(side.counts.subarray(peer * local, (peer + 1) * local)),
  );
  const input = context.read<RowBuffer>(data.input);

  if (data.direction === "to-experts") {
    if (data.header) {
      const { start, end } = chunkRange(routing.routing.numTokens, data.chunk, data.chunks);
      const stride = header + maxRowsPerPeer(shape, routing.routing.numTokens, end - start);
      const wire = toWire(input.rows, context, shape);
      side.regionStart.forEach((row, peer) => {
        const at = wire.u8.byteOffset + row * rowBytes(shape);
        new Int32Array(wire.u8.buffer, at, local).set(side.counts.subarray(peer * local, (peer + 1) * local));
      });
      const received = context.memory.allocate((shape.epSize * stride * rowBytes(shape)) / 4);
      const send = slots(
        wire.u8,
        side.regionStart,
        tokenRowsTo.map((n) => n + header),
        shape,
      );
      const starts = side.regionStart.map((_, peer) => peer * stride);
      const recv = slots(
        received.u8,
        starts,
        starts.map(() => stride),
        shape,
      );
      return transfer(op, context, {
        send,
        recv,
        wire,
        finish: () => {
          const counts = starts.map((row) =>
            new Int32Array(received.u8.buffer, received.u8.byteOffset + row * rowBytes(shape), local).slice(),
          );
          context.write(data.counts, expertSide(counts), []);
          publish(
            context,
            data.output,
            received,
            starts.map((row) => row + header),
            shape,
          );
        },
      });
    }
    const experts = context.read<ExpertSide>(data.counts);
    const starts = packedStarts(experts);
    const wire = toWire(input.rows, context, shape);
    const received = context.memory.allocate((experts.numRows * rowBytes(shape)) / 4);
    const send = slots(
      wire.u8,
      side.regionStart.map((row) => row + header),
      tokenRowsTo,
      shape,
    );
    const recv = slots(received.u8, starts, experts.rowsFrom, shape);
    return transfer(op, context, {
      send,
      recv,
      wire,
      finish: () => publish(context, data.output, received, starts, shape),
    });
  }

  const experts = context.read<ExpertSide>(data.counts);
  const wire = toWire(input.rows, context, shape);
  const received = context.memory.allocate((side.numRows * rowBytes(shape)) / 4);
  const send = slots(wire.u8, input.starts, experts.rowsFrom, shape);
  const recv = slots(
    received.u8,
    side.regionStart.map((row) => row + header),
    tokenRowsTo,
    shape,
  );
  const starts = side.regionStart.map((row) => row + header);
  return transfer(op, context, {
    send,
    recv,
    wire,
    finish: () => publish(context, data.output, received, starts, shape),
  });
}

function tokenRows(block: Block, regionStart: readonly number[], shape: K.MoeShape): RowBuffer {
  return { rows: block.f32, starts: regionStart.map((row) => row + headerRows(shape)) };
}

function slots(
  buffer: Uint8Array,
  startRows: readonly number[],
  numRows: readonly number[],
  shape: K.MoeShape,
): Slots {
  const bytes = rowBytes(shape);
  return { buffer, offsets: startRows.map((row) => row * bytes), bytes: numRows.map((rows) => rows * bytes) };
}

function sum(values: Int32Array): number {
  return values.reduce((a, b) => a + b, 0);
}

interface Wire {
  readonly u8: Uint8Array;
  /** Released when the transfer has finished. */
  readonly temporary?: Block;
}

function toWire(rows: Float32Array, context: RunContext, shape: K.MoeShape): Wire {
  if (shape.wire === "f32") return { u8: new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength) };
  const block = context.memory.allocate(Math.ceil(rows.length / 2));
  context.engine.routines.toBf16(new Uint16Array(block.f32.buffer, block.f32.byteOffset, rows.length), rows);
  return { u8: block.u8, temporary: block };
}

function publish(
  context: RunContext,
  value: number,
  received: Block,
  starts: readonly number[],
  shape: K.MoeShape,
): void {
  if (shape.wire === "f32") {
    context.write(value, { rows: received.f32, starts } satisfies RowBuffer, [received]);
    return;
  }
  const halves = new Uint16Array(received.f32.buffer, received.f32.byteOffset, received.f32.length * 2);
  const block = context.memory.allocate(halves.length);
  context.engine.routines.fromBf16(block.f32, halves);
  context.memory.release(received);
  context.write(value, { rows: block.f32, starts } satisfies RowBuffer, [block]);
}

function transfer(
  op: Operator,
  context: RunContext,
  t: { send: Slots; recv: Slots; wire: Wire; finish: () => void },
): NetworkJob {
  const bytes = t.send.bytes.reduce((total, b, peer) => (peer === context.ep.rank ? total : total + b), 0);
  return {
    pending: context.ep.exchange({ label: op.name, send: t.send, recv: t.recv }),
    bytes,
    finish() {
      if (t.wire.temporary !== undefined) context.memory.release(t.wire.temporary);
      t.finish();
    },
  };
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
