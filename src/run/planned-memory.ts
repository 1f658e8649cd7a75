/** Activation memory of a program under a schedule, computed before anything runs. */
import { workspaceBytes, elementBytes } from "../kernel/workspace.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Symbols } from "../kernel/symbols.js";
import type * as K from "../program/kinds.js";
import type { Operator } from "../program/operator.js";
import { dependencies } from "../program/program.js";
import type { Plan } from "./executor.js";

export interface PlannedMemory {
  /** Most bytes of values alive at a time, and of what the operator of that moment needs beside them. */
  readonly peakBytes: number;
  /** The operator at which the peak is reached. */
  readonly operator: string;
}

/** What an operator writes: bytes of its own per value, and values whose memory the value shares. */
interface Written {
  readonly value: number;
  readonly bytes: number;
  readonly shares: readonly number[];
}

/** Sizes of a micro-batch on one rank. */
export interface MicroBatchSize {
  readonly batch: number;
  readonly sequence: number;
}

/**
 * Walks the schedule as the executor does, every transfer arriving before the next operator. Ragged rows count as if they
 * were spread evenly over ranks: T·k rows per rank.
 */
export function plannedMemory(plan: Plan, size: MicroBatchSize): PlannedMemory {
  const { program, schedule, keep } = plan;
  const symbols: Symbols = new Map([
    ["T", size.batch * size.sequence],
    ["B", size.batch],
  ]);
  const waitsFor = dependencies(program).map((ids) => [...ids]);
  for (const [before, after] of schedule.edges) waitsFor[after].push(before);
  const readersLeft = program.values.map((value) => (keep.has(value.id) ? 1 : 0));
  for (const op of program.operators) for (const value of new Set(op.reads)) readersLeft[value]++;
  const isWritten = new Set(program.operators.flatMap((op) => op.writes));

  const blocks = new Map<number, Block[]>();
  let live = 0;
  let peak: PlannedMemory = { peakBytes: 0, operator: "" };
  const hold = ({ value, bytes, shares }: Written): void => {
    const own: Block = { bytes, references: 0 };
    const held = [own, ...shares.flatMap((other) => blocks.get(other) ?? [])];
    for (const block of held) block.references++;
    live += bytes;
    blocks.set(value, held);
  };
  const drop = (value: number): void => {
    for (const block of blocks.get(value) ?? []) if (--block.references === 0) live -= block.bytes;
    blocks.delete(value);
  };
  for (const value of program.values)
    if (!isWritten.has(value.id)) hold({ value: value.id, bytes: value.bytes, shares: [] });

  const done = new Set<number>();
  const run = (op: Operator): void => {
    for (const written of writtenBy(op, plan, symbols)) hold(written);
    const now = live + scratchBytes(op, symbols);
    if (now > peak.peakBytes) peak = { peakBytes: now, operator: op.name };
    done.add(op.id);
    for (const value of new Set(op.reads)) if (--readersLeft[value] === 0) drop(value);
    for (const value of op.writes) if (readersLeft[value] === 0) drop(value);
  };
  const isReady = (id: number): boolean => waitsFor[id].every((before) => done.has(before));
  const { compute, network, storage } = schedule.order;
  const others = [...network, ...storage];
  let next = 0;
  for (;;) {
    const ready = others.findIndex((id) => !done.has(id) && isReady(id));
    if (ready >= 0) run(program.operators[others.splice(ready, 1)[0]]);
    else if (next < compute.length) run(program.operators[compute[next++]]);
    else break;
  }
  return peak;
}

interface Block {
  readonly bytes: number;
  references: number;
}

function writtenBy(op: Operator, { program }: Plan, symbols: Symbols): Written[] {
  const exact = outputBytes(op, symbols);
  return op.writes.map((value): Written => {
    const bytes = exact.get(value) ?? program.values[value].bytes;
    if (op.kind === "transfer") {
      const { shape, input, output } = op.data as K.TransferData;
      // One rank sends to itself: the same memory under another name.
      if (shape.epSize === 1 && value === output) return { value, bytes: 0, shares: [input] };
    }
    if (op.kind === "expert") {
      const data = op.data as K.ExpertData;
      if (value === data.saved) {
        const isSingle = data.shape.epSize === 1;
        const rowsBytes = program.values[data.arrived].bytes;
        return {
          value,
          bytes: bytes + (isSingle ? 0 : rowsBytes),
          shares: isSingle ? [data.arrived] : [],
        };
      }
    }
    return { value, bytes, shares: [] };
  });
}

/** Bytes of the outputs of kernels, which follow from their expressions. */
function outputBytes(op: Operator, symbols: Symbols): Map<number, number> {
  const sizes = new Map<number, number>();
  const add = (kernel: Kernel, outputs: Readonly<Record<string, number>>): void => {
    for (const { name, expr, aliasOf } of kernel.outputs)
      if (aliasOf === undefined && outputs[name] !== undefined)
        sizes.set(outputs[name], elementBytes(expr, symbols));
  };
  if (op.kind === "kernel") {
    const data = op.data as K.KernelData;
    add(data.kernel.forward, data.outputs);
  } else if (op.kind === "kernel'") {
    const data = op.data as K.KernelBackwardData;
    add(data.kernel.backward, data.outputs);
  } else if (op.kind === "expert") {
    const { kernel, saved, shape, chunks } = op.data as K.ExpertData;
    const rows = new Map([["R", Math.ceil(((symbols.get("T") as number) * shape.topK) / chunks)]]);
    const activations = kernel.forward.outputs.filter((o) => o.name !== "y");
    sizes.set(
      saved,
      activations.reduce((sum, { expr }) => sum + elementBytes(expr, rows), 0),
    );
  }
  return sizes;
}

/** Intermediate results of a kernel; an expert at a time has its share of the rows. */
function scratchBytes(op: Operator, symbols: Symbols): number {
  if (op.kind === "kernel") return workspaceBytes((op.data as K.KernelData).kernel.forward, symbols);
  if (op.kind === "kernel'")
    return workspaceBytes((op.data as K.KernelBackwardData).kernel.backward, symbols);
  if (op.kind !== "expert" && op.kind !== "expert'") return 0;
  const isForward = op.kind === "expert";
  const data = isForward ? (op.data as K.ExpertData) : (op.data as K.ExpertBackwardData).forward;
  const { shape, chunks, kernel } = data;
  const rows = ((symbols.get("T") as number) * shape.topK) / chunks / shape.numExperts;
  return workspaceBytes(isForward ? kernel.forward : kernel.backward, new Map([["R", Math.ceil(rows)]]));
}
