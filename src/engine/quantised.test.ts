/** Fixed weights in each form: what kernels compute, and that a row's bits do not depend on the rows beside it. */
import { afterAll, describe, expect, it } from "vitest";
import { ENGINES, expectClose, filled } from "../../test/engines.js";
import { type Tensor, numElements } from "../core/tensor.js";
import * as k from "../kernel/build.js";
import { type FixedParameter, quantisable } from "../kernel/fix.js";
import type { Kernel } from "../kernel/kernel.js";
import { encodeOnnx } from "../kernel/onnx/encode.js";
import { FORM_BITS, type WeightForm, dequantise, quantise } from "../kernel/quantise.js";
import { attentionKernel } from "../model/parts/attention.js";
import { experts, mlp } from "../model/parts/feed-forward.js";
import { gate } from "../model/parts/gate.js";
import { latentAttentionKernel } from "../model/parts/latent-attention.js";
import { createOrtEngine } from "./ort-engine.js";

interface Kernels {
  readonly attention: Kernel;
  readonly dense: Kernel;
  readonly expert: Kernel;
}

/** Of rows D wide: sequences of one token each. */
function kernelsOf(D: number): Kernels {
  const norm = { kind: "rms", width: D, eps: 1e-5 } as const;
  const swiglu = { width: D, inner: 160, kind: "swiglu", bias: false } as const;
  const heads = { heads: 4, kvHeads: 2, headDim: 24, bias: true, outBias: false };
  return {
    attention: attentionKernel({ width: D, ...heads, norm, rope: { theta: 1e4 } }, 1),
    dense: mlp({ ...swiglu, norm }, { mlp: "mlp", norm: "norm" }).kernel(),
    expert: experts(swiglu, "experts.{e}", 2).kernel(),
  };
}

const productOf = (K: number): Kernel =>
  k.kernel("product", {
    y: k.linear(k.input("x", ["T", K]), k.parameter("w", [40, K]), k.parameter("b", [40])),
  });

/** Weights of a kernel in a form, and the same in f32. */
function weightsOf(
  kernel: Kernel,
  form: WeightForm,
): Record<"fixed" | "same", Record<string, FixedParameter>> {
  const arena = createOrtEngine().newArena(2 ** 24, "weights");
  const [bits, names] = [FORM_BITS[form], quantisable(kernel)];
  const [fixed, same]: [Record<string, FixedParameter>, Record<string, FixedParameter>] = [{}, {}];
  for (const { name, expr, role } of kernel.inputs) {
    if (role !== "parameter") continue;
    const tensor = filled(arena, name, expr.dims as number[]);
    fixed[name] = same[name] = tensor;
    if (bits === undefined || !names.has(name)) continue;
    const matrix = quantise(tensor.data, tensor.dims, bits);
    fixed[name] = matrix;
    same[name] = { data: dequantise(matrix), dims: tensor.dims };
  }
  return { fixed, same };
}

describe.each(ENGINES)("%s", (_engine, create) => {
  const engine = create();
  const arena = engine.newArena(2 ** 22, "tensors");
  afterAll(() => engine.dispose());

  it.each((["int8", "int4"] as const).flatMap((form) => [50, 256].map((K) => [form, K] as const)))(
    "a product with weights in %s, of rows of %i, whatever becomes of their memory",
    (form, K) => {
      const product = productOf(K);
      const { fixed, same } = weightsOf(product, form);
      const [quantised, plain] = [engine.compile(product, fixed), engine.compile(product, same)];
      const matrix = fixed.w as ReturnType<typeof quantise>;
      matrix.packed.fill(255);
      matrix.scales.fill(NaN);
      for (const rows of [1, 3, 17]) {
        const x = filled(arena, "x", [rows, K]);
        const [found, wanted] = [filled(arena, "y", [rows, 40]), filled(arena, "z", [rows, 40])];
        quantised.run({ x, y: found });
        plain.run({ x, y: wanted });
        // Rows are read in 8 bits.
        expectClose(found.data, wanted.data, 0.01);
        expect(found.data).not.toEqual(wanted.data);
      }
    },
  );
});

describe("onnxruntime", () => {
  const engine = createOrtEngine();
  const arena = engine.newArena(2 ** 24, "tensors");
  afterAll(() => engine.dispose());

  /** Runs kernels one after another, each on what the one before gave, over some of the rows of x. */
  const run = (
    executables: readonly ReturnType<typeof engine.compile>[],
    D: number,
    x: Float32Array,
  ): Float32Array =>
    executables.reduce((from, executable) => {
      const dims = [from.length / D, D];
      const y: Tensor<Float32Array> = { data: arena.f32(numElements(dims)), dims };
      executable.run({ x: { data: from, dims }, y });
      const result = y.data.slice();
      arena.free(y.data);
      return result;
    }, x);

  // Rows of 96 are blocks of 32; rows of 256 are whole ones of the largest.
  const FORMS = ["f32", "int8", "int4"] as const;
  const KERNELS = [96, 256].flatMap((D) => {
    const { attention, dense, expert } = kernelsOf(D);
    return [
      { D, name: "a dense block", kernels: [attention, dense] },
      { D, name: "an expert", kernels: [expert] },
    ];
  });
  it.each(FORMS.flatMap((form) => KERNELS.map((one) => ({ form, ...one }))))(
    "$form: rows of $name, $D wide, have the same bits alone and among up to 40",
    ({ form, D, kernels }) => {
      const executables = kernels.map((kernel) => engine.compile(kernel, weightsOf(kernel, form).fixed));
      const x = filled(arena, "rows", [40, D]).data;
      const alone = Array.from({ length: 40 }, (_, r) => [
        ...run(executables, D, x.subarray(r * D, (r + 1) * D)),
      ]).flat();
      const wanted = Float32Array.from(alone);
      expect(wanted.every(Number.isFinite)).toBe(true);
      for (let rows = 2; rows <= 40; rows++)
        expect(run(executables, D, x.subarray(0, rows * D)), `${rows} rows`).toEqual(
          wanted.subarray(0, rows * D),
        );
    },
  );
});

describe("which weights may be quantised", () => {
  const D = 96;
  const { dense } = kernelsOf(D);
  const norm = { kind: "rms", width: D, eps: 1e-5 } as const;
  it("those of products of rows, but for gates and what other ops read", () => {
    expect([...quantisable(dense)]).toEqual(["in_w", "out_w"]);
    const routing = { norm, numLogits: 8, noise: false, selectionBias: false };
    expect([...quantisable(gate(routing, { gate: "gate", norm: "norm" }).kernel(false))]).toEqual([]);
    const latent = {
      width: D,
      heads: 2,
      qRank: 32,
      kvRank: 32,
      plainDim: 16,
      ropeDim: 8,
      valueDim: 16,
      bias: false,
      scaled: false,
      outBias: false,
      norm,
      rope: { theta: 1e4 },
    };
    const cached = latentAttentionKernel(latent, "S", { cache: true });
    expect(quantisable(cached).has("q_a_w")).toBe(true);
    expect(quantisable(latentAttentionKernel(latent, 4)).has("kv_b_w")).toBe(true);
    expect(quantisable(cached).has("kv_b_w")).toBe(false);
  });

  it("others are refused", () => {
    const product = productOf(50);
    const { fixed } = weightsOf(product, "int4");
    const engine = createOrtEngine();
    const wrong = k.kernel("other", { y: k.mul(k.input("x", [40, 50]), k.parameter("w", [40, 50])) });
    expect(() => engine.compile(wrong, { w: fixed.w })).toThrow(
      "other: w cannot be fixed: it is quantised, and is exact or read by other ops than linear",
    );
    const exact = k.kernel("exact", {
      y: k.linear(k.input("x", ["T", 50]), k.exactParameter("w", [40, 50])),
    });
    expect(() => engine.compile(exact, { w: fixed.w })).toThrow("exact: w cannot be fixed: it is quantised");
  });
});

it("a graph that may learn has the nodes it always had; one with fixed weights fewer, and no weights in its bytes", () => {
  const { dense } = kernelsOf(96);
  const text = (use?: "inference"): string => Buffer.from(encodeOnnx(dense, use).bytes).toString("latin1");
  expect(text()).not.toContain("SimplifiedLayerNormalization");
  expect(text("inference")).toContain("SimplifiedLayerNormalization");
  const weight = k.constant(new Float32Array(64 * 64), [64, 64]);
  const fixed = encodeOnnx(k.kernel("fixed", { y: k.linear(k.input("x", ["T", 64]), weight) }), "inference");
  expect(fixed.bytes.length).toBeLessThan(1000);
  expect(fixed.outside.map(({ dims }) => dims)).toEqual([[64, 64]]);
});
