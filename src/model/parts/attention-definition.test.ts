/** Every kind of attention against its definition in plain loops: results, and gradients against differences of the definition. */
import { expect, it } from "vitest";
import { philox } from "../../core/rng.js";
import { numElements } from "../../core/tensor.js";
import { type Differentiated, differentiate } from "../../kernel/differentiate.js";
import type { Dim, Kernel } from "../../kernel/kernel.js";
import { type Weights, referenceAttention } from "../../../test/reference/attention.js";
import { evaluate } from "../../../test/reference/evaluate.js";
import { type AttentionShape, attentionKernel } from "./attention.js";
import { cacheWidth } from "./attend.js";
import { type LatentAttentionShape, latentAttentionKernel } from "./latent-attention.js";

const [B, S, D] = [2, 7, 12];
const norm = { kind: "rms", width: D, eps: 1e-3 } as const;
const grouped: AttentionShape = {
  width: D,
  heads: 4,
  kvHeads: 2,
  // Not D / heads.
  headDim: 8,
  bias: false,
  outBias: false,
  norm,
  rope: { theta: 100 },
};
const latent: LatentAttentionShape = {
  width: D,
  heads: 3,
  qRank: 5,
  kvRank: 4,
  plainDim: 3,
  ropeDim: 8,
  valueDim: 2,
  bias: false,
  outBias: false,
  scaled: false,
  norm,
  rope: { theta: 100, pairs: "neighbours" },
};
const long = { factor: 4, original_max_position_embeddings: 24 };
const llama3 = { rope_type: "llama3", ...long, low_freq_factor: 1, high_freq_factor: 4 } as const;
const yarn = { rope_type: "yarn", ...long, beta_fast: 3, beta_slow: 0.5, truncate: true } as const;

const SHAPES: [string, AttentionShape | LatentAttentionShape][] = [
  ["plain", grouped],
  ["biases", { ...grouped, bias: true, outBias: true }],
  ["no positions", { ...grouped, rope: undefined }],
  ["norm of each head", { ...grouped, queryKeyNorm: "head" }],
  ["norm of the projection, clamped", { ...grouped, queryKeyNorm: "projection", clip: 0.9 }],
  ["clamped without a norm", { ...grouped, bias: true, clip: 0.3 }],
  ["norm of each head, clamped", { ...grouped, queryKeyNorm: "head", clip: 0.6 }],
  ["gate, window", { ...grouped, gate: true, window: 3 }],
  ["neighbours turn", { ...grouped, rope: { theta: 100, pairs: "neighbours" } }],
  ["llama3", { ...grouped, rope: { theta: 100, scaling: llama3 } }],
  ["yarn", { ...grouped, rope: { theta: 100, scaling: yarn, pairs: "neighbours" } }],
  [
    "yarn, both scales",
    { ...grouped, rope: { theta: 100, scaling: { ...yarn, mscale: 2, mscale_all_dim: 0.5 } } },
  ],
  [
    "yarn, bounds as they are, a factor given",
    {
      ...grouped,
      rope: { theta: 100, scaling: { ...yarn, truncate: false, attention_factor: 0.7, mscale: 2 } },
    },
  ],
  ["latent", latent],
  ["latent, biases, gate", { ...latent, bias: true, outBias: true, gate: true }],
  ["latent, queries not compressed, halves turn", { ...latent, qRank: undefined, rope: { theta: 100 } }],
  ["latent, scaled", { ...latent, scaled: true }],
  ["latent, yarn", { ...latent, rope: { theta: 100, scaling: { ...yarn, mscale: 1, mscale_all_dim: 0.8 } } }],
  ["latent, yarn, one scale", { ...latent, rope: { theta: 100, scaling: { ...yarn, mscale: 1 } } }],
];

type Values = Record<string, { data: Float64Array; dims: readonly number[] }>;

function normal(name: string, dims: readonly number[]): Values[string] {
  const random = philox(4, name);
  return { data: Float64Array.from({ length: numElements(dims) }, (_, i) => 0.6 * random.normal(i)), dims };
}

const kernelOf = (shape: AttentionShape | LatentAttentionShape, sequence: Dim): Kernel =>
  "kvRank" in shape ? latentAttentionKernel(shape, sequence) : attentionKernel(shape, sequence);

function given({ forward, backward }: Differentiated): Values {
  const values: Values = { x: normal("x", [B * S, D]), d_y: normal("d_y", [B * S, D]) };
  for (const { name, role, expr } of [...forward.inputs, ...backward.inputs]) {
    if (role !== "parameter") continue;
    const dims = expr.dims as number[];
    values[name] = name.startsWith("g_")
      ? { data: new Float64Array(numElements(dims)), dims }
      : normal(name, dims);
  }
  return values;
}

function definition(shape: AttentionShape | LatentAttentionShape, values: Values): number[] {
  const rows = Array.from({ length: B * S }, (_, t) => [...values.x.data.subarray(t * D, (t + 1) * D)]);
  const sequences = Array.from({ length: B }, (_, b) => rows.slice(b * S, (b + 1) * S));
  return sequences.flatMap((x) => referenceAttention(shape, values as Weights, x)).flat();
}

function difference(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  const w = Array.from(wanted);
  return Math.hypot(...Array.from(found).map((value, i) => value - w[i])) / Math.hypot(...w);
}

it.each(SHAPES)("%s", (_name, shape) => {
  const fixed = differentiate(kernelOf(shape, S));
  const values = given(fixed);
  const wanted = definition(shape, values);
  const kept = evaluate(fixed.forward, values, "f64");
  // Tables of constants are f32.
  expect(difference(kept.y.data, wanted)).toBeLessThan(1e-7);
  const positions = { data: Int32Array.from({ length: S }, (_, s) => s), dims: [S] };
  const any = evaluate(kernelOf(shape, "S"), { ...values, positions }, "f64");
  expect(difference(any.y.data, wanted)).toBeLessThan(1e-7);

  const gradients = evaluate(fixed.backward, { ...values, ...kept }, "f64");
  const names = Object.keys(values).filter((name) => name !== "d_y" && !name.startsWith("g_"));
  for (const name of names) {
    const gradient = gradients[name === "x" ? "d_x" : `g_${name}`].data;
    const along = normal(`along ${name}`, values[name].dims).data;
    const loss = (step: number): number => {
      const data = values[name].data.map((value, i) => value + step * along[i]);
      const y = definition(shape, { ...values, [name]: { ...values[name], data } });
      return y.reduce((total, value, i) => total + value * values.d_y.data[i], 0);
    };
    const [h, predicted] = [1e-5, gradient.reduce((total, g, i) => total + g * along[i], 0)];
    const found = (loss(h) - loss(-h)) / (2 * h);
    expect(Math.abs(found - predicted), `${name}: ${predicted} ≈ ${found}`).toBeLessThan(
      1e-6 * Math.max(1, Math.abs(found)),
    );
  }
});

it("a latent cache is one vector per row, whatever the number of heads", () => {
  const { inputs, outputs } = latentAttentionKernel(latent, "S", { cache: true });
  const dims = (values: Kernel["inputs"] | Kernel["outputs"]) =>
    Object.fromEntries(values.map(({ name, expr }) => [name, expr.dims]));
  const cache = ["B", 1, "C", cacheWidth(latent.kvRank + latent.ropeDim)];
  expect(dims(inputs)).toMatchObject({ cache_k: cache, positions: ["B", 1, "S"] });
  expect(dims(inputs).cache_v).toBeUndefined();
  expect(dims(outputs)).toEqual({ y: ["T", D], cache_k: cache, cache_v: cache });
  expect(outputs.map(({ aliasOf }) => aliasOf)).toEqual([undefined, "cache_k", "cache_k"]);
});
