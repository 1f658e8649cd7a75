/** What the kernels of a program hold of fixed weights in a form, from the program alone. */
import { numElements } from "../core/tensor.js";
import { quantisable } from "../kernel/fix.js";
import type { Kernel } from "../kernel/kernel.js";
import { kernelKey } from "../kernel/key.js";
import { FORM_BITS, type WeightForm, quantisedBytes } from "../kernel/quantise.js";
import type { ParameterInfo } from "../model/parts/part.js";
import type { ParameterSpan } from "../program/kinds.js";
import type { Program } from "../program/program.js";
import { localExperts } from "./moe/layout.js";

export interface HeldWeights {
  /** Of all kernels, packed, and of the tables that rows are read from. */
  readonly heldBytes: number;
  /** Most that one kernel's weights take while it is compiled, beside that. */
  readonly readingBytes: number;
}

/** @param parameters of the model */
export function heldWeights(
  { operators }: Program,
  form: WeightForm,
  parameters: readonly ParameterInfo[],
): HeldWeights {
  const held = new Map<string, number>();
  let readingBytes = 0;
  const addKernel = (
    kernel: Kernel,
    spans: Readonly<Record<string, ParameterSpan>>,
    copies: number,
  ): void => {
    const { packed, read } = bytesOf(kernel, spans, form);
    held.set(`${JSON.stringify(spans)} ${kernelKey(kernel)}`, packed * copies);
    readingBytes = Math.max(readingBytes, read);
  };
  const addTable = (name: string): void => {
    const info = parameters.find((p) => p.name === name);
    held.set(name, info === undefined ? 0 : 4 * numElements(info.dims));
  };
  for (const { kind, data } of operators)
    if (kind === "kernel") addKernel(data.kernel, data.parameters, 1);
    else if (kind === "expert") addKernel(data.kernel, data.parameters, localExperts(data.shape));
    else if (kind === "embed") {
      addTable(data.embedding);
      if (data.positions !== undefined) addTable(data.positions.table);
    }
  return { heldBytes: [...held.values()].reduce((a, b) => a + b, 0), readingBytes };
}

function bytesOf(
  kernel: Kernel,
  spans: Readonly<Record<string, ParameterSpan>>,
  form: WeightForm,
): { packed: number; read: number } {
  const bits = FORM_BITS[form];
  const inBits = bits === undefined ? undefined : quantisable(kernel);
  let [packed, read] = [0, 0];
  for (const { name, expr } of kernel.inputs) {
    if (spans[name] === undefined) continue;
    const dims = expr.dims as readonly number[];
    if (bits !== undefined && inBits?.has(name)) {
      const bytes = quantisedBytes(dims, bits);
      read += bytes.packed + bytes.scales;
      // onnxruntime packs a sum of each block with it.
      packed += bytes.packed + 2 * bytes.scales;
    } else {
      read += 4 * numElements(dims);
      packed += 4 * numElements(dims);
    }
  }
  return { packed, read };
}
