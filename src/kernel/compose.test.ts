import { describe, expect, it } from "vitest";
import { createReferenceEngine } from "../../test/reference/engine.js";
import * as k from "./build.js";
import { type BoundKernel, composeKernels } from "./compose.js";
import { topological } from "./topological.js";
import type { Kernel } from "./kernel.js";
import { kernelKey } from "./key.js";

const x = k.input("x", ["T", 2]);
const w = k.parameter("w", [2, 2]);
/** y = xWᵀ, and its double. */
const product = k.kernel("product", { y: k.linear(x, w), z: k.mul(k.linear(x, w), k.scalar(2)) });
const member = (
  inputs: BoundKernel["inputs"],
  outputs: BoundKernel["outputs"],
  parameters: BoundKernel["parameters"],
  kernel: Kernel = product,
): BoundKernel => ({ kernel, inputs, outputs, parameters });
const numProducts = ({ kernel }: BoundKernel): number =>
  topological(kernel.outputs.map((o) => o.expr)).filter(({ op }) => op === "linear").length;

describe("composeKernels()", () => {
  it("reads what a member gives inside, and names what is given by the members' names", () => {
    const two = [member({ x: 0 }, { y: 1, z: 2 }, { w: 0 }), member({ x: 1 }, { y: 3, z: 4 }, { w: 1 })];
    const composed = composeKernels("both", two, new Set([2, 3]));
    expect(composed).toMatchObject({
      inputs: { x: 0 },
      outputs: { z: 2, y: 3 },
      parameters: { w: 0, w_2: 1 },
    });
    expect(composed.kernel.inputs.map(({ name, role }) => `${name} ${role}`)).toEqual([
      "x input",
      "w parameter",
      "w_2 parameter",
    ]);
    const given = (data: number[], dims: number[]) => ({ data: Float32Array.from(data), dims });
    const bindings = {
      x: given([1, 2], [1, 2]),
      w: given([1, 1, 0, 1], [2, 2]),
      w_2: given([2, 0, 1, -1], [2, 2]),
      z: given([0, 0], [1, 2]),
      y: given([0, 0], [1, 2]),
    };
    createReferenceEngine().compile(composed.kernel).run(bindings);
    expect([...bindings.z.data]).toEqual([6, 4]);
    expect([...bindings.y.data]).toEqual([6, 1]);
  });

  it("leaves out what no wanted value follows from", () => {
    const two = [member({ x: 0 }, { y: 1, z: 2 }, { w: 0 }), member({ x: 9 }, { y: 3, z: 4 }, { w: 1 })];
    const { kernel, ...bound } = composeKernels("first", two, new Set([1]));
    expect(bound).toEqual({ inputs: { x: 0 }, outputs: { y: 1 }, parameters: { w: 0 } });
    expect(kernel.inputs).toHaveLength(2);
  });

  it("computes equal expressions once, of one parameter and one value only", () => {
    const twice = (parameter: number, value: number): BoundKernel =>
      composeKernels(
        "twice",
        [member({ x: 0 }, { y: 1, z: 2 }, { w: 0 }), member({ x: value }, { y: 3, z: 4 }, { w: parameter })],
        new Set([1, 2, 3, 4]),
      );
    expect(numProducts(twice(0, 0))).toBe(1);
    expect(numProducts(twice(1, 0))).toBe(2);
    expect(numProducts(twice(0, 5))).toBe(2);
    // One result under two names.
    expect(twice(0, 0).outputs).toEqual({ y: 1, z: 2, y_2: 3, z_2: 4 });
  });

  it("makes kernels of one structure of members that are bound alike, whatever they are bound to", () => {
    const chain = (first: number): Kernel =>
      composeKernels(
        `from ${first}`,
        [
          member({ x: first }, { y: first + 1, z: first + 2 }, { w: first }),
          member({ x: first + 1 }, { y: first + 3, z: first + 4 }, { w: first + 1 }),
        ],
        new Set([first + 3]),
      ).kernel;
    expect(kernelKey(chain(0))).toBe(kernelKey(chain(10)));
  });

  it("keeps what is written in place, wanted or not, over the input's new name", () => {
    const add = k.kernel("add", { sum: k.add(k.input("total", ["T", 2]), x) }, { sum: "total" });
    const members = [
      member({ x: 0 }, { y: 1 }, { w: 0 }),
      member({ x: 1, total: 5 }, { sum: 6 }, {}, add),
      member({ x: 0, total: 7 }, { sum: 8 }, {}, add),
    ];
    const { kernel, inputs, outputs } = composeKernels("totals", members, new Set([8]));
    expect(inputs).toEqual({ x: 0, total: 5, total_2: 7 });
    expect(outputs).toEqual({ sum_2: 8 });
    expect(kernel.outputs.map(({ name, aliasOf }) => [name, aliasOf])).toEqual([
      ["sum", "total"],
      ["sum_2", "total_2"],
    ]);
  });

  it("refuses a value that members shape differently, and inputs that are bound to nothing", () => {
    const other = k.kernel("other", { y: k.neg(k.input("x", ["R", 2])) });
    const two = [member({ x: 0 }, { y: 1 }, { w: 0 }), member({ x: 1 }, { y: 2 }, {}, other)];
    expect(() => composeKernels("both", two, new Set([2]))).toThrow(/other: x is of other dims elsewhere/);
    expect(() => composeKernels("none", [member({}, { y: 1 }, { w: 0 })], new Set([1]))).toThrow(
      /product: nothing is bound to x/,
    );
  });
});
