/** Attention kernels run on random numbers, for their tests. */
import { expect } from "vitest";
import { philox } from "../src/core/rng.js";
import { type Tensor, numElements } from "../src/core/tensor.js";
import type { Executable } from "../src/engine/engine.js";
import type { Kernel } from "../src/kernel/kernel.js";
import { bindSymbols, concreteDims } from "../src/kernel/symbols.js";

export type Tensors = Record<string, Tensor>;

export const normal = (name: string, dims: readonly number[]): Tensor<Float32Array> => {
  const data = new Float32Array(numElements(dims));
  philox(3, name).fillNormal(data, 0, 0.5);
  return { data, dims };
};

export const weights = (kernel: Kernel): Tensors =>
  Object.fromEntries(
    kernel.inputs
      .filter((i) => i.role === "parameter")
      .map(({ name, expr }) => [name, normal(name, expr.dims as number[])]),
  );

/** Tensors given and the kernel's outputs, gradients of parameters starting at zero. */
export function run(executable: Executable, kernel: Kernel, given: Tensors): Tensors {
  const symbols = bindSymbols(kernel, given);
  const bound = { ...given };
  for (const { name, expr } of kernel.outputs) {
    const dims = concreteDims(expr.dims, symbols);
    bound[name] = { data: new Float32Array(numElements(dims)), dims };
  }
  executable.run(bound);
  return bound;
}

/** Euclidean norm of the difference, relative to that of the wanted values. */
export function expectEqual(found: Tensor, wanted: Tensor, tolerance: number, what: string): void {
  expect(found.dims, what).toEqual(wanted.dims);
  const norm = (x: readonly number[]): number => Math.hypot(...x);
  const [f, w] = [Array.from(found.data), Array.from(wanted.data)];
  expect(norm(f.map((v, i) => v - w[i])) / Math.max(norm(w), 1e-6), what).toBeLessThan(tolerance);
}
