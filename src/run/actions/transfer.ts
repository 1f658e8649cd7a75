/**
 * Dispatch, combine and their derivatives: one ragged all-to-all each. The first transfer of a routing brings the rows
 * per expert ahead of the rows, and its receive buffer is a pool: nobody reserves the most that could come, and nobody
 * waits for counts before sending. All later transfers of the routing know their sizes.
 */
import type { ExchangeResult, Slots } from "../../comm/communicator.js";
import { bytesToOthers } from "../../comm/slots.js";
import { type ExpertSide, expertSide, localExperts, packedStarts, rowBytes } from "../../moe/layout.js";
import type * as K from "../../program/kinds.js";
import type { Operator } from "../../program/operator.js";
import type { NetworkJob, RunContext } from "../context.js";
import type { Block } from "../memory.js";
import type { RoutingValue } from "./gate.js";
import type { RowBuffer } from "./rows.js";

export function runTransfer(op: Operator, context: RunContext): NetworkJob | undefined {
  const data = op.data as K.TransferData;
  if (data.shape.epSize === 1) {
    keepHere(data, context);
    return undefined;
  }
  return data.bringsCounts ? withCounts(op, data, context) : withKnownSizes(op, data, context);
}

/** On one rank nothing moves: the output is the input's memory. */
function keepHere(data: K.TransferData, context: RunContext): void {
  if (data.bringsCounts) {
    const side = context.read<RoutingValue>(data.routing).side(data.shape, data.chunk, data.chunks);
    context.write(data.counts, expertSide([side.counts]), []);
  }
  const blocks = context.share(data.input);
  context.write(data.output, context.read<RowBuffer>(data.input), blocks);
}

/** Room beyond the most rows that an operator has seen; and at first, beyond as many rows as it sends. */
const SLACK = 1.25;
/** Rows that have arrived at an operator; what more needs comes as a second, exact buffer. */
const mostRows = new WeakMap<Operator, number>();

function withCounts(op: Operator, data: K.TransferData, context: RunContext): NetworkJob {
  const { shape } = data;
  const side = context.read<RoutingValue>(data.routing).side(shape, data.chunk, data.chunks);
  const wire = toWire(context.read<RowBuffer>(data.input).rows, context, shape);
  const allocate = (rows: number): Block => context.memory.allocate((rows * rowBytes(shape)) / 4);
  const expected = Math.ceil((mostRows.get(op) ?? side.numRows) * SLACK);
  const blocks = [allocate(Math.max(side.rowsTo[context.ep.rank], expected))];
  const pending = context.ep.exchange({
    label: op.name,
    send: slots(wire.u8, side.regionStart, side.rowsTo, shape),
    recv: {
      buffer: blocks[0].u8,
      grow: (bytes) => (blocks[1] = allocate(bytes / rowBytes(shape))).u8,
    },
    notes: side.counts,
  });
  return job(pending, { rowsTo: side.rowsTo, wire, context, shape }, (result) => {
    const local = localExperts(shape);
    const experts = expertSide(
      result.bytes.map((_, peer) => result.notes.slice(peer * local, (peer + 1) * local)),
    );
    mostRows.set(op, Math.max(mostRows.get(op) ?? 0, experts.numRows));
    context.write(data.counts, experts, []);
    const starts = result.offsets.map((offset) => offset / rowBytes(shape));
    const rows = blocks[blocks.length - 1];
    if (blocks.length > 1) context.memory.release(blocks[0]);
    publish(context, data, rows, starts);
  });
}

function withKnownSizes(op: Operator, data: K.TransferData, context: RunContext): NetworkJob {
  const { shape } = data;
  const side = context.read<RoutingValue>(data.routing).side(shape, data.chunk, data.chunks);
  const experts = context.read<ExpertSide>(data.counts);
  const atTokens = { starts: side.regionStart, rows: side.rowsTo, total: side.numRows };
  const atExperts = { starts: packedStarts(experts), rows: experts.rowsFrom, total: experts.numRows };
  const [from, to] = data.direction === "to-experts" ? [atTokens, atExperts] : [atExperts, atTokens];
  const input = context.read<RowBuffer>(data.input);
  const wire = toWire(input.rows, context, shape);
  const received = context.memory.allocate((to.total * rowBytes(shape)) / 4);
  const pending = context.ep.exchange({
    label: op.name,
    send: slots(wire.u8, input.starts, from.rows, shape),
    recv: slots(received.u8, to.starts, to.rows, shape),
  });
  return job(pending, { rowsTo: from.rows, wire, context, shape }, () =>
    publish(context, data, received, to.starts),
  );
}

function job(
  pending: NetworkJob["pending"],
  sent: { rowsTo: readonly number[]; wire: Wire; context: RunContext; shape: K.MoeShape },
  finish: (result: ExchangeResult) => void,
): NetworkJob {
  const { context, wire, shape } = sent;
  return {
    pending,
    bytes: bytesToOthers(
      sent.rowsTo.map((rows) => rows * rowBytes(shape)),
      context.ep.rank,
    ),
    finish(result) {
      if (wire.temporary !== undefined) context.memory.release(wire.temporary);
      finish(result);
    },
  };
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

interface Wire {
  readonly u8: Uint8Array;
  /** Released when the transfer has finished. */
  readonly temporary?: Block;
}

/** With bf16 on the wire, rows are rounded before they travel and widened after. */
function toWire(rows: Float32Array, context: RunContext, shape: K.MoeShape): Wire {
  if (shape.wire === "f32") return { u8: new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength) };
  const block = context.memory.allocate(Math.ceil(rows.length / 2));
  context.engine.routines.toBf16(new Uint16Array(block.f32.buffer, block.f32.byteOffset, rows.length), rows);
  return { u8: block.u8, temporary: block };
}

function publish(
  context: RunContext,
  data: K.TransferData,
  received: Block,
  starts: readonly number[],
): void {
  if (data.shape.wire === "f32") {
    context.write(data.output, { rows: received.f32, starts } satisfies RowBuffer, [received]);
    return;
  }
  const halves = new Uint16Array(received.f32.buffer, received.f32.byteOffset, received.f32.length * 2);
  const block = context.memory.allocate(halves.length);
  context.engine.routines.fromBf16(block.f32, halves);
  context.memory.release(received);
  context.write(data.output, { rows: block.f32, starts } satisfies RowBuffer, [block]);
}
