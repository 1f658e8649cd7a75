/** One loop over the op table: derivatives against finite differences in f64, onnxruntime against the reference. */
import { afterAll, describe, expect, it } from "vitest";
import { philox } from "../core/rng.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import * as k from "./build.js";
import { differentiate } from "./differentiate.js";
import type { Expr, Kernel } from "./kernel.js";
import { OP_NAMES, type OpName } from "./ops.js";
import { quantise } from "./quantise.js";
import { type ReferenceTensor, evaluate } from "../../test/reference/evaluate.js";

const x = k.input("x", [3, 4]);
const z = k.input("z", [3, 4]);
const row = k.input("row", [4]);
const w = k.parameter("w", [5, 4]);
const bias = k.parameter("b", [5]);
const scale = k.parameter("scale", [4]);
const shift = k.parameter("shift", [4]);
const labels = k.input("labels", [3], "i32");
const places = k.input("places", [3], "i32");
const perRow = k.input("perRow", [3]);
/** Inputs whose op is defined for positive numbers only. */
const POSITIVE = new Set(["positive"]);
const positive = k.input("positive", [3, 4]);

/** Of 2 sequences, 4 heads over 2, with 4 and 5 rows in caches of 7. */
function attention(window?: number, values: "own" | "shared" = "own", last = "last"): k.CachedAttention {
  const rows = (name: string, heads: number): Expr => k.input(name, [2, 1, heads * 8]);
  const keys = k.input("keys", [2, 2, 7, 8]);
  return k.cachedAttention(
    { q: rows("q", 4), key: rows("key", 2), value: rows(values === "own" ? "value" : "key", 2) },
    { keys, values: values === "own" ? k.input("values", [2, 2, 7, 8]) : keys },
    { last: k.input(last, [2], "i32"), total: k.input("total", [1], "i32") },
    { heads: 4, scale: 0.3, window },
  );
}

/** Ops that programs of training have none of. */
const INFERENCE = new Set<OpName>(["quantisedLinear", "gatherRows", "cachedAttention", "cacheAfter"]);
/** What integers must be for an op to make sense. */
const INTEGERS: Readonly<Record<string, readonly number[]>> = {
  last: [4, 5],
  full: [6, 6],
  total: [7],
  three: [2, 0, 1, 0, 2],
};

function numbers(name: string, count: number): Float32Array {
  const data = new Float32Array(count);
  philox(7, name).fillNormal(data, 0, 1);
  return data;
}

/** Expressions that use each op; results of gradient ops are functions like any other. */
const SAMPLES: Readonly<Record<OpName, readonly Expr[]>> = {
  input: [x],
  constant: [k.mul(x, k.constant(Float32Array.of(1, -2, 3, 0.5), [4]))],
  add: [k.add(x, z), k.add(x, row), k.add(x, x)],
  sub: [k.sub(x, row), k.sub(row, x)],
  mul: [k.mul(x, row), k.mul(x, x)],
  div: [k.div(x, positive), k.div(row, positive)],
  neg: [k.neg(x)],
  exp: [k.exp(x)],
  log: [k.log(positive)],
  sqrt: [k.sqrt(positive)],
  reciprocal: [k.reciprocal(positive)],
  tanh: [k.tanh(x)],
  sigmoid: [k.sigmoid(x)],
  erf: [k.erf(x)],
  softplus: [k.softplus(x)],
  gelu: [k.gelu(x)],
  geluGrad: [k.geluGrad(x, z)],
  silu: [k.silu(x)],
  siluGrad: [k.siluGrad(x, z)],
  clamp: [k.clamp(x, 0.7)],
  // Of x it is flat, but where it jumps.
  clampGrad: [k.add(k.clampGrad(x, z, 0.7), x)],
  matmul: [
    k.matmul(x, z, { transB: true }),
    k.matmul(x, z, { transA: true, alpha: 0.5 }),
    k.matmul(k.reshape(x, [3, 2, 2]), k.reshape(z, [3, 2, 2])),
  ],
  linear: [k.linear(x, w), k.linear(x, w, bias)],
  quantisedLinear: [
    k.quantisedLinear(x, quantise(numbers("q", 20), [5, 4], 8)),
    k.quantisedLinear(x, quantise(numbers("q", 20), [5, 4], 4), k.parameter("b", [5])),
    k.quantisedLinear(k.reshape(k.concat([x, z, x, x], 1), [1, 48]), quantise(numbers("q", 96), [2, 48], 4)),
    k.quantisedLinear(k.input("wide", [3, 128]), quantise(numbers("q", 256), [2, 128], 8)),
    // Of an odd number of rows, in large blocks; two products of the same rows, and a sum of rows that are pairs.
    k.silu(
      k.add(
        k.quantisedLinear(k.input("wide", [3, 128]), quantise(numbers("q", 256), [2, 128], 4)),
        k.quantisedLinear(
          k.input("wide", [3, 128]),
          quantise(numbers("r", 256), [2, 128], 4),
          k.parameter("c", [2]),
        ),
      ),
    ),
  ],
  gemmAccumulate: [k.gemmAccumulate(k.input("c", [4, 4]), x, z, { transA: true })],
  transpose: [k.transpose(x, [1, 0])],
  reshape: [k.reshape(x, [2, 6])],
  slice: [k.slice(x, 1, 1, 3), k.slice(x, 0, 0, 2)],
  pad: [k.pad(x, 1, 1, 2)],
  sumPrefixes: [k.sumPrefixes([k.reshape(x, [2, 3, 2]), k.slice(k.reshape(z, [2, 3, 2]), 1, 0, 2)], 3)],
  concat: [k.concat([x, z], 1), k.concat([x, x], 0)],
  expand: [k.expand(k.input("one", [3, 1]), [3, 4])],
  reduceSum: [k.reduceSum(x, [0]), k.reduceSum(x, [1], true)],
  reduceMean: [k.reduceMean(x, [1]), k.reduceMean(x, [0], true)],
  rotary: [
    k.mul(x, k.rotary(places, [1, 0.25, 3, 1e-3], "cos")),
    k.add(x, k.rotary(places, [1, 0.25, 3, 1e-3], "sin")),
  ],
  causalBias: [
    k.softmax(k.add(x, k.causalBias(places, k.input("keys", [4], "i32")))),
    k.softmax(k.add(x, k.causalBias(k.input("queries", [3], "i32"), k.input("keys", [4], "i32"), 2))),
  ],
  documentBias: [
    // Starts 0, 1, 2 and 3, 0, 1 of rows over the keys of places 1 to 4.
    k.softmax(k.add(k.reshape(x, [1, 1, 3, 4]), k.documentBias(k.input("starts", [2, 3], "i32"), 1, 5))),
  ],
  gatherRows: [k.gatherRows(x, k.input("three", [5], "i32"))],
  cachedAttention: [attention().context, attention(2).context, attention(undefined, "shared").context],
  // Full ones: in memory of its own onnxruntime leaves zeros after the last row.
  cacheAfter: [
    attention(undefined, "own", "full").keys,
    attention(undefined, "own", "full").values,
    attention(undefined, "shared", "full").values,
  ],
  softmax: [k.softmax(x)],
  softmaxGrad: [k.softmaxGrad(k.softmax(x), z)],
  layerNorm: [k.layerNorm(x, scale, shift)],
  layerNormGrad: [k.layerNormGrad(x, scale, z)],
  layerNormScaleGrad: [k.layerNormScaleGrad(x, z)],
  rmsNorm: [k.rmsNorm(x, scale)],
  rmsNormGrad: [k.rmsNormGrad(x, scale, z)],
  rmsNormScaleGrad: [k.rmsNormScaleGrad(x, z)],
  crossEntropy: [k.crossEntropy(x, labels)],
  crossEntropyGrad: [k.crossEntropyGrad(x, labels, perRow)],
  softCrossEntropy: [
    k.softCrossEntropy(x, k.softmax(z)),
    k.softCrossEntropy(x, k.softmax(x)),
    k.softCrossEntropy(x, z),
  ],
};
function bindingsOf(kernel: Kernel): Record<string, { data: Float64Array; dims: number[] }> {
  return Object.fromEntries(
    kernel.inputs.map(({ name, expr }) => {
      const dims = expr.dims as number[];
      const random = philox(5, name);
      const data = Float64Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => {
        if (expr.dtype === "i32") return INTEGERS[name]?.[i] ?? i % 4;
        // Numbers that f32 holds exactly, so that both engines see the same.
        const value = Math.fround(random.normal(i));
        return POSITIVE.has(name) ? Math.abs(value) + 0.5 : value;
      });
      return [name, { data, dims }];
    }),
  );
}

const isClose = (a: number, b: number, tolerance: number): boolean =>
  Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(a), Math.abs(b));

describe("derivatives agree with finite differences (f64, relative 1e-6)", () => {
  it.each([...INFERENCE])("%s has none", (op) => {
    const [expr] = SAMPLES[op];
    expect(() => differentiate(k.kernel("q", { y: expr }))).toThrow(op);
  });

  const cases = OP_NAMES.filter((op) => !INFERENCE.has(op)).flatMap((op) =>
    SAMPLES[op].map((expr, i) => [`${op} ${i}`, expr] as const),
  );
  it.each(cases)("%s", (name, expr) => {
    const source = k.kernel(name, { y: expr });
    const { forward, backward } = differentiate(source);
    const given = bindingsOf(source);
    const saved = evaluate(forward, given, "f64");
    const random = philox(6, "dy");
    const dy = saved.y.data.map((_, i) => Math.fround(random.normal(i)));
    const loss = (bindings: Record<string, ReferenceTensor>): number =>
      evaluate(source, bindings, "f64").y.data.reduce((sum, v, i) => sum + v * dy[i], 0);
    const zeros = Object.fromEntries(
      source.inputs
        .filter((i) => i.role === "parameter")
        .map((i) => [
          `g_${i.name}`,
          { data: new Float64Array(given[i.name].data.length), dims: given[i.name].dims },
        ]),
    );
    const gradients = evaluate(
      backward,
      { ...given, ...saved, ...zeros, d_y: { data: dy, dims: saved.y.dims } },
      "f64",
    );
    let checked = 0;
    for (const { name: inputName, role, expr: input } of source.inputs) {
      if (input.dtype !== "f32") continue;
      const gradient = gradients[role === "parameter" ? `g_${inputName}` : `d_${inputName}`];
      given[inputName].data.forEach((value, i) => {
        const h = 1e-5;
        const at = (v: number): number => {
          const data = given[inputName].data.slice();
          data[i] = v;
          return loss({ ...given, [inputName]: { data, dims: given[inputName].dims } });
        };
        const difference = (at(value + h) - at(value - h)) / (2 * h);
        expect(
          isClose(gradient.data[i], difference, 1e-6),
          `${inputName}[${i}]: ${gradient.data[i]} ≈ ${difference}`,
        ).toBe(true);
        checked++;
      });
    }
    expect(checked).toBeGreaterThan(0);
  });
});

describe("onnxruntime agrees with the reference (1e-5)", () => {
  const engine = createOrtEngine();
  const arena = engine.newArena(1 << 20, "table test");
  afterAll(() => engine.dispose());
  const cases = OP_NAMES.filter((op) => op !== "input").flatMap((op) =>
    SAMPLES[op].map((expr, i) => [`${op} ${i}`, expr] as const),
  );
  it.each(cases)("%s", (name, expr) => {
    const source = k.kernel(name, { y: expr });
    const given = bindingsOf(source);
    const wanted = evaluate(source, given, "f64").y;
    const bindings = Object.fromEntries(
      source.inputs.map((input) => {
        const { data, dims } = given[input.name];
        const view = input.expr.dtype === "i32" ? arena.i32(data.length) : arena.f32(data.length);
        view.set(data);
        return [input.name, { data: view, dims }];
      }),
    );
    const y = arena.f32(wanted.data.length);
    engine.compile(source).run({ ...bindings, y: { data: y, dims: wanted.dims } });
    wanted.data.forEach((value, i) =>
      expect(isClose(y[i], value, 1e-5), `[${i}]: ${y[i]} ≈ ${value}`).toBe(true),
    );
  });

  it("what is no number stays none when it is clamped", () => {
    const source = k.kernel("clamp", { y: k.clamp(k.input("x", [4]), 1) });
    const [given, y] = [arena.f32(4), arena.f32(4)];
    given.set([NaN, Infinity, -Infinity, 0.5]);
    engine.compile(source).run({ x: { data: given, dims: [4] }, y: { data: y, dims: [4] } });
    expect([...y]).toEqual([NaN, 1, -1, 0.5]);
  });
});
