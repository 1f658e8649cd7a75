/** Weights compiled into a kernel give the numbers of weights that are bound. */
import { afterAll, describe, expect, it } from "vitest";
import { ENGINES, expectClose, filled } from "../../test/engines.js";
import { type Tensor, numElements } from "../core/tensor.js";
import { InputError } from "../core/errors.js";
import { collectGarbage } from "../core/garbage.js";
import * as k from "../kernel/build.js";
import { differentiate } from "../kernel/differentiate.js";
import type { Kernel } from "../kernel/kernel.js";
import { concreteDims } from "../kernel/symbols.js";
import { type FeedForwardShape, mlp } from "../model/parts/feed-forward.js";
import type { NormShape } from "../model/parts/norm.js";
import { routineUse } from "./kernel-routines.js";
import { createOrtEngine } from "./ort-engine.js";
import { stagesOf } from "./stages.js";

const product = (): Kernel =>
  k.kernel("product", {
    y: k.linear(k.input("x", ["T", 24]), k.parameter("w", [40, 24]), k.parameter("b", [40])),
  });
const mlpOf = (kind: FeedForwardShape["kind"], norm: NormShape["kind"]): Kernel =>
  mlp(
    { width: 24, inner: 40, kind, bias: kind === "gelu", norm: { kind: norm, width: 24, eps: 1e-5 } },
    { mlp: "mlp", norm: "norm" },
  ).kernel();
const gelu = mlpOf("gelu", "layer");
const swiglu = mlpOf("swiglu", "rms");
const KERNELS: [string, Kernel][] = [
  ["one matrix", product()],
  ["mlp, gelu", gelu],
  ["mlp, swiglu", swiglu],
  // Kernels in stages; routines read fixed weights.
  ["gradients of mlp, gelu", differentiate(gelu).backward],
  ["gradients of mlp, swiglu", differentiate(swiglu).backward],
];

const isGradient = (name: string): boolean => name.startsWith("g_");

describe.each(ENGINES)("%s", (_engine, create) => {
  const engine = create();
  const arena = engine.newArena(2 ** 23, "tensors");
  afterAll(() => engine.dispose());

  /** Tensors of a kernel over some rows: its weights, and all others. */
  const tensors = (kernel: Kernel, rows: number) => {
    const [weights, others]: [Record<string, Tensor>, Record<string, Tensor>] = [{}, {}];
    for (const { name, expr, role } of [
      ...kernel.inputs,
      ...kernel.outputs.map((o) => ({ ...o, role: "" })),
    ]) {
      const tensor = filled(arena, name, concreteDims(expr.dims, new Map([["T", rows]])));
      if (role === "parameter" && !isGradient(name)) weights[name] = tensor;
      else others[name] = tensor;
    }
    return { weights, others };
  };
  const results = (kernel: Kernel, bound: Record<string, Tensor>): number[][] =>
    kernel.outputs.map(({ name }) => [...bound[name].data]);

  it.each(KERNELS)("any number of rows, whatever becomes of the weights' memory: %s", (_name, kernel) => {
    const { weights } = tensors(kernel, 1);
    const executable = engine.compile(kernel, weights);
    for (const { data } of Object.values(weights)) data.fill(NaN);
    for (const rows of [1, 3, 17]) {
      const bound = tensors(kernel, rows);
      engine.compile(kernel).run({ ...bound.weights, ...bound.others });
      const wanted = results(kernel, bound.others);
      const { others } = tensors(kernel, rows);
      executable.run(others);
      results(kernel, others).forEach((found, i) =>
        expectClose(found, wanted[i], 1e-6, `${kernel.outputs[i].name}, ${rows} rows`),
      );
    }
  });

  it("some weights fixed, the others bound; each set is a compilation of its own", () => {
    const { weights, others } = tensors(product(), 3);
    const twice = { ...weights.w, data: (weights.w.data as Float32Array).map((x) => 2 * x) };
    const once = engine.compile(product(), { w: weights.w });
    const doubled = engine.compile(product(), { w: twice });
    const [y, b] = [others.y.data, weights.b];
    b.data.fill(0);
    once.run({ ...others, b });
    const first = [...y];
    doubled.run({ ...others, b });
    expectClose(
      y,
      first.map((v) => 2 * v),
    );
    expect(() => once.run(others)).toThrow("product: nothing is bound to b");
    expect(() => engine.compile(product()).run({ ...others, b })).toThrow("product: nothing is bound to w");
  });

  it("refuses what it cannot fix", () => {
    const { weights, others } = tensors(product(), 3);
    const fix = (kernel: Kernel, fixed: Record<string, Tensor>) => () => engine.compile(kernel, fixed);
    expect(fix(product(), { q: weights.w })).toThrow(
      "product: q cannot be fixed: it is no parameter of the kernel",
    );
    expect(fix(product(), { x: others.x })).toThrow("product: x cannot be fixed: it is no parameter");
    expect(fix(product(), { w: weights.b })).toThrow(
      "product: w cannot be fixed: it is [40], wanted f32 [40, 24]",
    );
    const { backward } = differentiate(product());
    const g = filled(arena, "g", [40, 24]);
    expect(fix(backward, { g_w: g })).toThrow("product': g_w cannot be fixed: the kernel writes it");
  });
});

it("the gradients here are kernels in stages", () => {
  for (const [, kernel] of KERNELS.slice(-2))
    expect(stagesOf(kernel, routineUse)?.stages.some((stage) => stage.kind === "routine")).toBe(true);
});

it("onnxruntime's copy of the weights is the only one that stays", () => {
  const engine = createOrtEngine();
  const dims = [2 ** 11, 2 ** 11];
  const w = { data: engine.newArena(2 ** 24, "weights").f32(2 ** 22), dims };
  const kernel = k.kernel("large", { y: k.linear(k.input("x", ["T", dims[1]]), k.parameter("w", dims)) });
  collectGarbage();
  const before = process.memoryUsage().arrayBuffers;
  const grown = (): number => process.memoryUsage().arrayBuffers - before;
  const kept = [engine.compile(kernel, { w })];
  // What one collection finds unused, a later one gives back.
  for (let tries = 0; tries < 10 && grown() >= w.data.byteLength / 2; tries++) collectGarbage();
  expect(grown()).toBeLessThan(w.data.byteLength / 2);
  expect(kept.length).toBe(1);
  engine.dispose();
});

it("onnxruntime takes less than 2 GiB of weights that it does not pack, and says so before it copies them", () => {
  const engine = createOrtEngine();
  const dims = [2 ** 15, 2 ** 14];
  // Address space only: nobody touches the pages.
  const data = engine.newArena(2 ** 31, "weights").f32(numElements(dims));
  const kernel = k.kernel("huge", { y: k.mul(k.input("x", dims), k.parameter("w", dims)) });
  const compile = () => engine.compile(kernel, { w: { data, dims } });
  expect(compile).toThrow(InputError);
  expect(compile).toThrow(
    "huge: with its fixed weights the kernel has 2.00 GiB, onnxruntime reads at most 2 GiB",
  );
  engine.dispose();
});
