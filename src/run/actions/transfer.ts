/**
 * Dispatch, combine and their derivatives: one ragged All-to-All each. Of a routing's first transfer the receiver does not
 * know how many rows come: their numbers travel ahead of them, and they are received into a pool, so that memory is needed
 * for what arrives and not for the most that could. All later transfers of the routing have known sizes.
 */
import type { ExchangeResult, Regions } from "../../comm/communicator.js";
import { bytesToOthers } from "../../comm/regions.js";
import { type ExpertSide, expertSide, localExperts, packedStarts, rowBytes } from "../moe/layout.js";
import type * as K from "../../program/kinds.js";
import { POOL_SLACK } from "../../program/footprint.js";
import type { OperatorOf } from "../../program/operator.js";
import type { Run, RunContext, Services, Transfer } from "../context.js";
import type { Allocation } from "../memory.js";
import type { RoutingValue } from "./gate.js";
import type { RowBuffer } from "./rows.js";

export function bindTransfer(op: OperatorOf<"transfer">, services: Services): Run {
  if (op.data.shape.epSize === 1) return (context) => keepHere(op.data, context);
  const rows = new RowTransfer(op, services);
  return op.data.bringsCounts
    ? (context) => rows.withCounts(context)
    : (context) => rows.withKnownSizes(context);
}

/** On one rank nothing moves: the output is the input's memory. */
function keepHere(data: K.TransferData, context: RunContext): undefined {
  if (data.bringsCounts) {
    const side = context.read<RoutingValue>(data.routing).side(data.shape, data.chunk, data.chunks);
    context.write(data.counts, expertSide([side.counts]), []);
  }
  context.write(data.output, context.read<RowBuffer>(data.input), context.hold(data.input));
  return undefined;
}

class RowTransfer {
  readonly #rowBytes: number;
  /** Most rows received so far. If more come, the pool grows once, to exactly what is needed. */
  #mostRows: number | undefined;

  constructor(
    readonly op: OperatorOf<"transfer">,
    readonly services: Services,
  ) {
    this.#rowBytes = rowBytes(op.data.shape);
  }

  withCounts(context: RunContext): Transfer {
    const { data, name } = this.op;
    const { ep, memory } = this.services;
    const side = context.read<RoutingValue>(data.routing).side(data.shape, data.chunk, data.chunks);
    const wire = this.#toWire(context.read<RowBuffer>(data.input).rows);
    const expected = Math.ceil((this.#mostRows ?? side.numRows) * POOL_SLACK);
    const rooms = [this.#allocate(Math.max(side.rowsTo[ep.rank], expected))];
    const pending = ep.exchange({
      label: name,
      send: this.#regions(wire.u8, side.regionStart, side.rowsTo),
      recv: {
        buffer: rooms[0].u8,
        grow: (bytes) => (rooms[1] = this.#allocate(bytes / this.#rowBytes)).u8,
      },
      notes: side.counts,
    });
    return this.#transfer(pending, side.rowsTo, wire, (result) => {
      const local = localExperts(data.shape);
      const experts = expertSide(
        result.bytes.map((_, peer) => result.notes.slice(peer * local, (peer + 1) * local)),
      );
      this.#mostRows = Math.max(this.#mostRows ?? 0, experts.numRows);
      context.write(data.counts, experts, []);
      const starts = result.offsets.map((offset) => offset / this.#rowBytes);
      if (rooms.length > 1) memory.release(rooms[0]);
      this.#publish(context, rooms[rooms.length - 1], starts);
    });
  }

  withKnownSizes(context: RunContext): Transfer {
    const { data, name } = this.op;
    const side = context.read<RoutingValue>(data.routing).side(data.shape, data.chunk, data.chunks);
    const experts = context.read<ExpertSide>(data.counts);
    const atTokens = { starts: side.regionStart, rows: side.rowsTo, total: side.numRows };
    const atExperts = { starts: packedStarts(experts), rows: experts.rowsFrom, total: experts.numRows };
    const [from, to] = data.direction === "to-experts" ? [atTokens, atExperts] : [atExperts, atTokens];
    const input = context.read<RowBuffer>(data.input);
    const wire = this.#toWire(input.rows);
    const received = this.#allocate(to.total);
    const pending = this.services.ep.exchange({
      label: name,
      send: this.#regions(wire.u8, input.starts, from.rows),
      recv: this.#regions(received.u8, to.starts, to.rows),
    });
    return this.#transfer(pending, from.rows, wire, () => this.#publish(context, received, to.starts));
  }

  #transfer(
    pending: Transfer["pending"],
    rowsTo: readonly number[],
    wire: Wire,
    finish: (result: ExchangeResult) => void,
  ): Transfer {
    const { ep, memory } = this.services;
    return {
      pending,
      queue: ep,
      bytes: bytesToOthers(
        rowsTo.map((rows) => rows * this.#rowBytes),
        ep.rank,
      ),
      finish(result) {
        if (wire.temporary !== undefined) memory.release(wire.temporary);
        finish(result);
      },
    };
  }

  #allocate(rows: number): Allocation {
    return this.services.memory.allocate((rows * this.#rowBytes) / 4);
  }

  #regions(buffer: Uint8Array, startRows: readonly number[], numRows: readonly number[]): Regions {
    const bytes = this.#rowBytes;
    return {
      buffer,
      offsets: startRows.map((row) => row * bytes),
      bytes: numRows.map((rows) => rows * bytes),
    };
  }

  /** With bf16 on the wire, rows are rounded before they travel and widened after. */
  #toWire(rows: Float32Array): Wire {
    if (this.op.data.shape.wire === "f32")
      return { u8: new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength) };
    const { memory, engine } = this.services;
    const temporary = memory.allocate(Math.ceil(rows.length / 2));
    const { buffer, byteOffset } = temporary.f32;
    engine.routines.toBf16(new Uint16Array(buffer, byteOffset, rows.length), rows);
    return { u8: temporary.u8, temporary };
  }

  #publish(context: RunContext, received: Allocation, starts: readonly number[]): void {
    const { data } = this.op;
    let rows = received;
    if (data.shape.wire === "bf16") {
      const { memory, engine } = this.services;
      const halves = new Uint16Array(received.f32.buffer, received.f32.byteOffset, received.f32.length * 2);
      rows = memory.allocate(halves.length);
      engine.routines.fromBf16(rows.f32, halves);
      memory.release(received);
    }
    context.write(data.output, { rows: rows.f32, starts } satisfies RowBuffer, [rows]);
  }
}

interface Wire {
  readonly u8: Uint8Array;
  /** Released when the transfer has finished. */
  readonly temporary?: Allocation;
}
