/**
 * Routed experts on the rows that arrived: rows are brought from the layout by source into the layout by expert,
 * each local expert runs on its rows (no padding), and the results go back into the layout by source.
 */
import type { Tensor } from "../../core/tensor.js";
import { splitBackward } from "../../kernel/differentiate.js";
import type { Kernel } from "../../kernel/kernel.js";
import { concreteDims } from "../../kernel/symbols.js";
import { type ExpertSide, expertOffsets, localExperts, packedStarts, permutation } from "../../moe/layout.js";
import type * as K from "../../program/kinds.js";
import type { Operator } from "../../program/operator.js";
import type { RunContext } from "../context.js";
import type { Block } from "../memory.js";
import { bindParameters } from "./kernels.js";
import type { RowBuffer } from "./rows.js";

interface SavedExperts {
  /** Input rows by expert, [R, D]. */
  readonly rows: Float32Array;
  /** Saved activations by kernel output name. */
  readonly activations: Map<string, RowValues>;
}

/** Values of all experts' rows one after another, with elements per row. */
interface RowValues {
  readonly data: Float32Array;
  readonly rowElements: number;
}

export function runExperts(op: Operator, context: RunContext): void {
  const data = op.data as K.ExpertData;
  const { shape } = data;
  const arrived = context.read<RowBuffer>(data.arrived);
  const side = context.read<ExpertSide>(data.counts);
  const single = shape.epSize === 1;
  const kept: Block[] = [];
  const rows = single ? arrived.rows : byExpert(arrived, side, shape.width, context, kept);
  if (single) kept.push(...context.share(data.arrived));

  const kernel = data.kernel.forward;
  const results = context.memory.allocate(side.numRows * shape.width);
  const activations = new Map<string, RowValues>();
  for (const output of kernel.outputs) {
    if (output.name === "y") continue;
    const rowElements = perRow(kernel, output.name);
    const block = context.memory.allocate(side.numRows * rowElements);
    kept.push(block);
    activations.set(output.name, { data: block.f32, rowElements });
  }
  forEachExpert(data, side, (e, from, to, slice) => {
    const bindings: Record<string, Tensor> = {
      x: slice(rows, shape.width),
      y: slice(results.f32, shape.width),
    };
    for (const [name, { data: saved, rowElements }] of activations)
      bindings[name] = shapeLike(
        kernel,
        name,
        saved.subarray(from * rowElements, to * rowElements),
        to - from,
      );
    bindParameters(bindings, kernel, expertSpans(data, e, context), context);
    context.engine.compile(kernel).run(bindings);
  });
  context.write(data.saved, { rows, activations } satisfies SavedExperts, kept);
  if (single) context.write(data.output, { rows: results.f32, starts: [0] } satisfies RowBuffer, [results]);
  else {
    bySource(data.output, results, side, shape.width, context);
    context.memory.release(results);
  }
}

/** What the input half of a split backward pass leaves to the weight half. */
interface CarriedExperts {
  /** Incoming gradient by expert, [R, D]. */
  readonly dRows: Float32Array;
  readonly intermediates: SavedExperts["activations"];
}

export function runExpertsBackward(op: Operator, context: RunContext): void {
  const data = op.data as K.ExpertBackwardData;
  const { forward, part } = data;
  const { width } = forward.shape;
  const side = context.read<ExpertSide>(forward.counts);
  const saved = context.read<SavedExperts>(forward.saved);
  const halves = part === "both" ? undefined : splitBackward(forward.kernel.backward);
  const kernel = halves === undefined || part === "both" ? forward.kernel.backward : halves[part];
  const { dRows, intermediates, blocks } =
    part === "weight"
      ? { ...context.read<CarriedExperts>(data.carried), blocks: [] }
      : incomingGradients(data.dOutput, forward, side, context);
  for (const output of kernel.outputs) {
    if (!output.name.startsWith("t_")) continue;
    const rowElements = perRow(kernel, output.name);
    const block = context.memory.allocate(side.numRows * rowElements);
    blocks.push(block);
    intermediates.set(output.name, { data: block.f32, rowElements });
  }
  const out = part === "weight" ? undefined : context.memory.allocate(side.numRows * width);
  forEachExpert(forward, side, (e, from, to, slice) => {
    const bindings: Record<string, Tensor> = { x: slice(saved.rows, width), d_y: slice(dRows, width) };
    if (out !== undefined) bindings.d_x = slice(out.f32, width);
    const bindRows = (rows: SavedExperts["activations"], shapes: Kernel): void => {
      for (const [name, { data: values, rowElements }] of rows)
        bindings[name] = shapeLike(
          shapes,
          name,
          values.subarray(from * rowElements, to * rowElements),
          to - from,
        );
    };
    bindRows(saved.activations, forward.kernel.forward);
    if (halves !== undefined) bindRows(intermediates, halves.input);
    bindParameters(bindings, kernel, expertSpans(forward, e, context), context);
    for (const output of kernel.outputs)
      if (output.aliasOf !== undefined) bindings[output.name] = bindings[output.aliasOf];
    context.engine.compile(kernel).run(bindings);
  });
  if (part === "input")
    context.write(data.carried, { dRows, intermediates } satisfies CarriedExperts, blocks);
  else for (const block of blocks) context.memory.release(block);
  if (part === "weight" || out === undefined) return;
  if (forward.shape.epSize === 1)
    context.write(data.dArrived, { rows: out.f32, starts: [0] } satisfies RowBuffer, [out]);
  else {
    bySource(data.dArrived, out, side, width, context);
    context.memory.release(out);
  }
}

/** The gradient of the experts' outputs in the layout by expert, with the blocks that hold it. */
function incomingGradients(
  dOutput: number,
  forward: K.ExpertData,
  side: ExpertSide,
  context: RunContext,
): { dRows: Float32Array; intermediates: Map<string, RowValues>; blocks: Block[] } {
  const incoming = context.read<RowBuffer>(dOutput);
  const blocks: Block[] = [];
  const intermediates = new Map<string, RowValues>();
  if (forward.shape.epSize === 1) {
    blocks.push(...context.share(dOutput));
    return { dRows: incoming.rows, intermediates, blocks };
  }
  return { dRows: byExpert(incoming, side, forward.shape.width, context, blocks), intermediates, blocks };
}

/** Calls `visit` for each local expert that has rows, with its row range and a slicer of row-wise arrays. */
function forEachExpert(
  data: K.ExpertData,
  side: ExpertSide,
  visit: (
    e: number,
    from: number,
    to: number,
    slice: (rows: Float32Array, width: number) => Tensor<Float32Array>,
  ) => void,
): void {
  const offsets = expertOffsets(side);
  for (let e = 0; e < localExperts(data.shape); e++) {
    const [from, to] = [offsets[e], offsets[e + 1]];
    if (from === to) continue;
    visit(e, from, to, (rows, width) => ({
      data: rows.subarray(from * width, to * width),
      dims: [to - from, width],
    }));
  }
}

function expertSpans(
  data: K.ExpertData,
  local: number,
  context: RunContext,
): Record<string, K.ParameterSpan> {
  const index = String(context.ep.rank * localExperts(data.shape) + local);
  return Object.fromEntries(
    Object.entries(data.parameters).map(([name, span]) => [
      name,
      span.map((tensor) => tensor.replace("{e}", index)),
    ]),
  );
}

function perRow(kernel: Kernel, output: string): number {
  return shapeOf(kernel, output, 1).reduce((a, b) => a * b, 1);
}

function shapeOf(kernel: Kernel, output: string, numRows: number): number[] {
  const found = kernel.outputs.find((o) => o.name === output);
  if (found === undefined) throw new Error(`the expert kernel has no output ${output}`);
  return concreteDims(found.expr.dims, new Map([["R", numRows]]));
}

function shapeLike(kernel: Kernel, output: string, data: Float32Array, numRows: number): Tensor {
  return { data, dims: shapeOf(kernel, output, numRows) };
}

function byExpert(
  buffer: RowBuffer,
  side: ExpertSide,
  width: number,
  context: RunContext,
  blocks: Block[],
): Float32Array {
  const block = context.memory.allocate(side.numRows * width);
  blocks.push(block);
  for (const run of permutation(side, buffer.starts))
    block.f32.set(
      buffer.rows.subarray(run.bySource * width, (run.bySource + run.numRows) * width),
      run.byExpert * width,
    );
  return block.f32;
}

function bySource(value: number, results: Block, side: ExpertSide, width: number, context: RunContext): void {
  const block = context.memory.allocate(side.numRows * width);
  const starts = packedStarts(side);
  for (const run of permutation(side, starts))
    block.f32.set(
      results.f32.subarray(run.byExpert * width, (run.byExpert + run.numRows) * width),
      run.bySource * width,
    );
  context.write(value, { rows: block.f32, starts } satisfies RowBuffer, [block]);
}
