import { expect, it } from "vitest";
import { resolveModel } from "../model/config.js";
import { randomWeights } from "../run/random-weights.js";
import type { WeightForm } from "../kernel/quantise.js";
import { cacheReads } from "./cache-reads.js";
import { benchDecode } from "./decode.js";

const [D, F, V, L, H] = [64, 96, 160, 3, 2];
const SIZES = {
  style: "llama",
  vocab_size: V,
  hidden_size: D,
  intermediate_size: F,
  num_attention_heads: H,
  num_hidden_layers: L,
  num_experts: 4,
  max_position_embeddings: 64,
} as const;

/** Bytes of a matrix [rows, columns]: f32, or bits and a scale per block: of 8 bits 64 columns, where those are whole blocks, else 32. */
const matrix = (form: WeightForm, rows: number, columns: number): number =>
  rows *
  (form === "f32"
    ? columns * 4
    : (columns * (form === "int8" ? 8 : 4)) / 8 +
      (columns / (form === "int8" && columns % 64 === 0 ? 64 : 32)) * 4);

function bench(arch: string, form: WeightForm, more: object = {}) {
  const config = resolveModel({ ...SIZES, arch, ...more });
  const source = randomWeights(config, 1);
  const sizes = { batches: [1, 2], prompt: 5, chunk: 4, tokens: 3, rounds: 1, roofBytes: 2 ** 20 };
  return benchDecode({ model: { config, source }, form, ...sizes });
}

it.each<WeightForm>(["f32", "int8", "int4"])(
  "a dense model reads all weights but the table of embeddings: %s",
  (form) => {
    const attention = 4 * matrix(form, D, D);
    const mlp = 2 * matrix(form, F, D) + matrix(form, D, F);
    const norms = (2 * L + 1) * D * 4;
    const wanted = L * (attention + mlp) + norms + matrix(form, V, D);
    for (const { weightBytes } of bench("dense", form).rows) expect(weightBytes).toBe(wanted);
  },
);

it("of experts only those are read that were chosen", () => {
  const { rows } = bench("top2", "f32", { moe_layer_interval: 1 });
  const expert = 3 * F * D * 4;
  const others = L * (4 * D * D * 4 + 4 * D * 4) + (2 * L + 1) * D * 4 + V * D * 4;
  // The gate of 4 experts has a row of D for each.
  expect(rows[0].weightBytes).toBe(others + 2 * L * expert);
  const chosen = (rows[1].weightBytes - others) / expert;
  expect(Number.isInteger(chosen)).toBe(true);
  expect(chosen).toBeGreaterThanOrEqual(2 * L);
  expect(chosen).toBeLessThanOrEqual(4 * L);
});

it("of the cache all rows are read, the new one too, and no more than a window shows", () => {
  const row = 2 * D * 4;
  // Steps after 5 tokens of prompt see 6, 7 and 8 rows.
  expect(bench("dense", "f32").rows.map(({ cacheBytes }) => cacheBytes)).toEqual(
    [7, 14].map((n) => n * L * row),
  );
  const windowed = resolveModel({ ...SIZES, arch: "dense", sliding_window: 4, sliding_window_layers: [1] });
  expect(cacheReads(windowed)(7)).toBe((7 + 4 + 7) * row);
});

it("times add up", () => {
  for (const row of bench("scmoe-pos2", "f32").rows) {
    expect(row.insideMs + row.outsideMs).toBeCloseTo(row.stepMs.median, 9);
    expect(row.stepMs.p10).toBeLessThanOrEqual(row.stepMs.median);
    expect(row.stepMs.median).toBeLessThanOrEqual(row.stepMs.p90);
    expect(row.tokensPerSecond).toBeCloseTo((row.batch * 1e3) / row.stepMs.median, 6);
    expect(row.outsideShare).toBeGreaterThan(0);
    expect(row.outsideShare).toBeLessThan(1);
  }
});

it("refuses more tokens than the model has places for", () => {
  expect(() => bench("dense", "f32", { max_position_embeddings: 8 })).toThrow(
    /need a context of 10; .* is 8/,
  );
});
