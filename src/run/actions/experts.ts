/**
 * Routed experts on the rows that arrived: rows are brought from the layout by source into the layout by expert,
 * each local expert runs on its rows (no padding), and the results go back into the layout by source.
 */
import { type Tensor, numElements } from "../../core/tensor.js";
import type { Kernel } from "../../kernel/kernel.js";
import { concreteDims } from "../../kernel/symbols.js";
import { type ExpertSide, expertOffsets, localExperts, packedStarts, permutation } from "../moe/layout.js";
import type * as K from "../../program/kinds.js";
import type { OperatorOf } from "../../program/operator.js";
import { type Run, type RunContext, type Services, computing } from "../context.js";
import type { Allocation, Memory } from "../memory.js";
import { type KernelWithParameters, withParameters } from "./kernels.js";
import type { RowBuffer } from "./rows.js";

interface SavedExperts {
  /** Input rows by expert, [R, D]. */
  readonly rows: Float32Array;
  readonly activations: readonly RowValues[];
}

/** A kernel output of all experts' rows one after another, with elements per row. */
interface RowValues {
  readonly name: string;
  readonly data: Float32Array;
  readonly rowElements: number;
}

export function bindExperts({ data }: OperatorOf<"expert">, services: Services): Run {
  const { memory } = services;
  const { shape, kernel } = data;
  const { width } = shape;
  const isSingle = shape.epSize === 1;
  const experts = expertKernels(kernel, data, services);
  const saved = rowOutputs(kernel, (name) => name !== "y");
  return computing((context) => {
    const arrived = context.read<RowBuffer>(data.arrived);
    const side = context.read<ExpertSide>(data.counts);
    const kept: Allocation[] = [];
    const rows = isSingle ? arrived.rows : byExpert(arrived, side, { width, memory, kept });
    if (isSingle) kept.push(...context.hold(data.arrived));
    const results = memory.allocate(side.numRows * width);
    const activations = allocateRows(saved, side, { memory, kept });
    forEachExpert(experts, side, (expert, range) => {
      const bindings: Record<string, Tensor> = {
        ...expert.parameters,
        x: rowsOf(rows, width, range),
        y: rowsOf(results.f32, width, range),
      };
      bindRows(bindings, activations, { kernel, range });
      expert.run(bindings);
    });
    if (data.saved !== undefined)
      context.write(data.saved, { rows, activations } satisfies SavedExperts, kept);
    else for (const allocation of kept) memory.release(allocation);
    if (isSingle)
      context.write(data.output, { rows: results.f32, starts: [0] } satisfies RowBuffer, [results]);
    else writeBySource(data.output, results, side, { width, memory, context });
  });
}

/** What the input half of a split backward pass leaves to the weight half. */
interface CarriedExperts {
  /** Incoming gradient by expert, [R, D]. */
  readonly dRows: Float32Array;
  readonly intermediates: readonly RowValues[];
}

export function bindExpertsBackward({ data }: OperatorOf<"expert'">, services: Services): Run {
  const { memory } = services;
  const { forward, kernel } = data;
  const { width, epSize } = forward.shape;
  const isSingle = epSize === 1;
  const experts = expertKernels(kernel, forward, services);
  const made = rowOutputs(kernel, (name) => name.startsWith("t_"));
  /** The kernel that knows the shapes of what one half hands to the other. */
  const carrier = data.part === "weight" ? data.input : kernel;
  const incoming = (context: RunContext, side: ExpertSide, kept: Allocation[]): CarriedExperts => {
    if (data.part === "weight") return context.read<CarriedExperts>(data.carried);
    const buffer = context.read<RowBuffer>(data.dOutput);
    if (isSingle) kept.push(...context.hold(data.dOutput));
    const dRows = isSingle ? buffer.rows : byExpert(buffer, side, { width, memory, kept });
    return { dRows, intermediates: allocateRows(made, side, { memory, kept }) };
  };
  return computing((context) => {
    const side = context.read<ExpertSide>(forward.counts);
    const saved = context.read<SavedExperts>(forward.saved);
    const kept: Allocation[] = [];
    const { dRows, intermediates } = incoming(context, side, kept);
    const out = data.part === "weight" ? undefined : memory.allocate(side.numRows * width);
    forEachExpert(experts, side, (expert, range) => {
      const bindings: Record<string, Tensor> = {
        ...expert.parameters,
        x: rowsOf(saved.rows, width, range),
        d_y: rowsOf(dRows, width, range),
      };
      if (out !== undefined) bindings.d_x = rowsOf(out.f32, width, range);
      bindRows(bindings, saved.activations, { kernel: forward.kernel, range });
      bindRows(bindings, intermediates, { kernel: carrier, range });
      for (const { name, aliasOf } of kernel.outputs)
        if (aliasOf !== undefined) bindings[name] = bindings[aliasOf];
      expert.run(bindings);
    });
    if (data.part === "input")
      context.write(data.carried, { dRows, intermediates } satisfies CarriedExperts, kept);
    else for (const allocation of kept) memory.release(allocation);
    if (data.part === "weight" || out === undefined) return;
    if (isSingle) context.write(data.dArrived, { rows: out.f32, starts: [0] } satisfies RowBuffer, [out]);
    else writeBySource(data.dArrived, out, side, { width, memory, context });
  });
}

/** A kernel with the parameters of each local expert. */
function expertKernels(
  kernel: Kernel,
  { parameters, shape }: Pick<K.ExpertData, "parameters" | "shape">,
  services: Services,
): KernelWithParameters[] {
  const local = localExperts(shape);
  return Array.from({ length: local }, (_, e) => {
    const index = String(services.ep.rank * local + e);
    const spans = Object.fromEntries(
      Object.entries(parameters).map(([name, span]) => [
        name,
        span.map((tensor) => tensor.replace("{e}", index)),
      ]),
    );
    return withParameters(kernel, spans, services);
  });
}

/** Rows [from, to) of the layout by expert. */
interface RowRange {
  readonly from: number;
  readonly to: number;
}

/** Calls `visit` for each local expert that has rows. */
function forEachExpert(
  experts: readonly KernelWithParameters[],
  side: ExpertSide,
  visit: (expert: KernelWithParameters, range: RowRange) => void,
): void {
  const offsets = expertOffsets(side);
  experts.forEach((expert, e) => {
    const [from, to] = [offsets[e], offsets[e + 1]];
    if (from < to) visit(expert, { from, to });
  });
}

function rowsOf(rows: Float32Array, width: number, { from, to }: RowRange): Tensor<Float32Array> {
  return { data: rows.subarray(from * width, to * width), dims: [to - from, width] };
}

/** Binds what one expert has of each kernel output, shaped as `kernel` says. */
function bindRows(
  bindings: Record<string, Tensor>,
  values: readonly RowValues[],
  at: { readonly kernel: Kernel; readonly range: RowRange },
): void {
  const { from, to } = at.range;
  for (const { name, data, rowElements } of values)
    bindings[name] = {
      data: data.subarray(from * rowElements, to * rowElements),
      dims: shapeOf(at.kernel, name, to - from),
    };
}

type RowOutput = Omit<RowValues, "data">;

function rowOutputs(kernel: Kernel, isWanted: (name: string) => boolean): RowOutput[] {
  const names = kernel.outputs.map(({ name }) => name).filter(isWanted);
  return names.map((name) => ({ name, rowElements: numElements(shapeOf(kernel, name, 1)) }));
}

function allocateRows(
  outputs: readonly RowOutput[],
  { numRows }: ExpertSide,
  at: { readonly memory: Memory; readonly kept: Allocation[] },
): RowValues[] {
  return outputs.map(({ name, rowElements }) => {
    const allocation = at.memory.allocate(numRows * rowElements);
    at.kept.push(allocation);
    return { name, data: allocation.f32, rowElements };
  });
}

function shapeOf(kernel: Kernel, output: string, numRows: number): number[] {
  const found = kernel.outputs.find((o) => o.name === output);
  if (found === undefined) throw new Error(`${kernel.name} has no output ${output}`);
  return concreteDims(found.expr.dims, new Map([["R", numRows]]));
}

function byExpert(
  buffer: RowBuffer,
  side: ExpertSide,
  at: { readonly width: number; readonly memory: Memory; readonly kept: Allocation[] },
): Float32Array {
  const { width } = at;
  const allocation = at.memory.allocate(side.numRows * width);
  at.kept.push(allocation);
  for (const run of permutation(side, buffer.starts))
    allocation.f32.set(
      buffer.rows.subarray(run.bySource * width, (run.bySource + run.numRows) * width),
      run.byExpert * width,
    );
  return allocation.f32;
}

/** Writes rows in the layout by source, and releases them in the layout by expert. */
function writeBySource(
  value: number,
  results: Allocation,
  side: ExpertSide,
  at: { readonly width: number; readonly memory: Memory; readonly context: RunContext },
): void {
  const { width, memory } = at;
  const allocation = memory.allocate(side.numRows * width);
  const starts = packedStarts(side);
  for (const run of permutation(side, starts))
    allocation.f32.set(
      results.f32.subarray(run.byExpert * width, (run.byExpert + run.numRows) * width),
      run.bySource * width,
    );
  at.context.write(value, { rows: allocation.f32, starts } satisfies RowBuffer, [allocation]);
  memory.release(results);
}
