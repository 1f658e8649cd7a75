/** What a converted model computes: rules by table, and conversions whose function is known beforehand. */
import { afterAll, describe, expect, it } from "vitest";
import { philox } from "../src/core/rng.js";
import { singleCommunicator } from "../src/comm/single.js";
import type { Tensor } from "../src/core/tensor.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { type ModelConfig, resolveModel } from "../src/model/config.js";
import { type ConvertOptions, type Recipe, conversionOf } from "../src/model/convert/rules.js";
import { targetOf } from "../src/model/convert/target.js";
import { offeredPositions } from "../src/model/convert/window.js";
import { buildProgram } from "../src/model/language-model.js";
import { listParameters } from "../src/model/parameters.js";
import { convertedTensors } from "../src/run/convert-weights.js";
import { loadWeights } from "../src/run/load-weights.js";
import { createRank } from "../src/run/rank.js";
import { Session } from "../src/run/session.js";
import { sequential } from "../src/schedule/sequential.js";
import type { WeightSource } from "../src/storage/weight-source.js";

const SIZES = {
  vocab_size: 48,
  hidden_size: 16,
  intermediate_size: 24,
  num_attention_heads: 2,
  num_hidden_layers: 4,
  num_experts: 4,
  max_position_embeddings: 12,
};
const model = (arch: string, more: object = {}): ModelConfig => resolveModel({ ...SIZES, arch, ...more });

describe("rules", () => {
  const at = (name: string): string => `model.layers.1.${name}`;
  const copy = (from: string, factor = 1, noise = 0): Recipe => ({
    make: "mean",
    from: [at(from)],
    factor,
    noise,
  });
  const usage = new Map([1, 3].map((layer) => [layer, { rows: [1, 5, 9, 2], weight: 1, targetWeight: 0.5 }]));
  const up = "up_proj.weight";
  const down = "down_proj.weight";
  const CASES: readonly [from: string, to: string, tensor: string, Recipe, ConvertOptions?][] = [
    ["top2", "scmoe-pos2", `mlp.experts.3.${up}`, copy(`mlp.experts.3.${up}`)],
    // All of a block's term before; ¾ of it now, through a weight of ½.
    [
      "top2",
      "scmoe-pos2",
      `mlp.experts.3.${down}`,
      copy(`mlp.experts.3.${down}`, 1.5),
      { routedShare: 0.75 },
    ],
    ["top2", "scmoe2-pos1", "mlp.gate.weight", copy("mlp.gate.weight")],
    ["top2", "scmoe-pos3", "mlp.shortcut_layernorm.bias", copy("post_attention_layernorm.bias")],
    ["top2", "scmoe-pos2", "post_attention_layernorm.bias", copy("post_attention_layernorm.bias")],
    ["top2", "scmoe-pos2", "mlp.shared_expert_gate.weight", { make: "fill", value: 0 }],
    // Through a coefficient of ½.
    [
      "top2",
      "scmoe-pos2",
      `mlp.shared_expert.${down}`,
      copy(`mlp.experts.2.${down}`, 0.5),
      { routedShare: 0.75 },
    ],
    [
      "top2",
      "shared",
      `mlp.shared_expert.${up}`,
      { make: "mean", from: [0, 1, 2, 3].map((e) => at(`mlp.experts.${e}.${up}`)), factor: 1, noise: 0 },
      { shared: "mean" },
    ],
    ["shared", "scmoe-pos2", `mlp.shared_expert.${down}`, copy(`mlp.shared_expert.${down}`)],
    ["shared", "scmoe-pos2", "mlp.shared_expert_gate.weight", copy("mlp.shared_expert_gate.weight")],
    ["shared", "scmoe-pos2", `mlp.experts.0.${down}`, copy(`mlp.experts.0.${down}`, 2)],
    ["scmoe-pos1", "scmoe-pos3", "mlp.shortcut_layernorm.weight", copy("mlp.shortcut_layernorm.weight")],
    ["dense", "scmoe-pos2", `mlp.shared_expert.${up}`, copy(`mlp.${up}`)],
    ["dense", "scmoe-pos2", `mlp.experts.2.${up}`, copy(`mlp.${up}`, 1, 0.05), { noise: 0.05 }],
    // Half of the block's term, through a weight of one of four.
    ["dense", "scmoe-pos2", `mlp.experts.2.${down}`, copy(`mlp.${down}`, 2, 0.01), { routedShare: 0.5 }],
    ["dense", "top2", `mlp.experts.2.${down}`, copy(`mlp.${down}`, 1, 0.01)],
  ];
  it.each(CASES)("%s to %s: %s", (from, to, tensor, recipe, options) => {
    const source = model(from);
    const target = targetOf(source, to, from === "dense" ? { experts: 4 } : {});
    const made = conversionOf(source, target, { usage, ...options });
    expect(made.find(({ info }) => info.name === at(tensor))?.recipe).toEqual(recipe);
  });

  it("cover every tensor of every architecture, and read nothing that is not there", () => {
    for (const style of ["gpt", "llama"])
      for (const from of ["dense", "top1", "top2", "shared", "shared2", "scmoe-pos1", "scmoe2-pos3"])
        for (const to of [
          "top3",
          "shared",
          "scmoe-pos1",
          "scmoe-pos2-l0pos1",
          "scmoe2-pos3",
          "longcat2",
          "farskip",
          "dgmoe",
        ])
          for (const interval of [1, 2]) {
            const source = model(from, {
              style,
              moe_layer_interval: interval,
              balance: "bias",
              gate_noise: true,
            });
            let target: ModelConfig;
            try {
              target = targetOf(source, to, from === "dense" ? { interval } : {});
            } catch (error) {
              expect((error as Error).message).toMatch(/its shared expert would be lost|it is one already/);
              continue;
            }
            const names = new Set(listParameters(source).map(({ name }) => name));
            for (const { recipe } of conversionOf(source, target))
              if (recipe.make === "mean") for (const name of recipe.from) expect(names).toContain(name);
          }
  });

  it("leave zero experts what the target's k makes of them", () => {
    const source = model("longcat3", { num_zero_experts: 4, active_experts: 2 });
    const { num_zero_experts, active_experts, topK } = targetOf(source, "scmoe-pos2");
    expect([num_zero_experts, topK]).toEqual([4, 1]);
    expect(active_experts).toBeLessThan(1);
  });

  it.each([
    ["top2", "top2", /is one already/],
    ["scmoe-pos2", "scmoe1-pos2", /is one already/],
    ["top2", "dense", /no place for its experts/],
    ["shared", "top2", /shared expert would be lost/],
    ["top2", "dgmoe-share", /give their experts up/],
    ["dgmoe", "scmoe-pos2", /wanted a dense, top-k/],
    ["top2", "scmoe-pos5", /Unknown architecture "scmoe-pos5": did you mean/],
  ])("%s to %s is refused", (from, to, message) => {
    expect(() => targetOf(model(from), to)).toThrow(message);
  });

  it("a width that experts have not is refused by name", () => {
    const source = model("dense");
    const target = resolveModel({ ...SIZES, arch: "scmoe-pos2", moe_intermediate_size: 20 });
    expect(() => conversionOf(source, target)).toThrow(
      /"model\.layers\.1\.mlp\.experts\.0\.up_proj\.weight" is \[20, 16\], and "model\.layers\.1\.mlp\.up_proj\.weight" is \[24, 16\]/,
    );
  });

  it("positions and their windows", () => {
    const windows = (config: ModelConfig): number[] =>
      offeredPositions(config).map(({ window }) => window.length);
    expect(windows(model("scmoe-pos2"))).toEqual([2, 3, 4]);
    expect(offeredPositions(model("scmoe-pos2"))[1]).toMatchObject({
      isChosen: true,
      window: ["the preceding block's MLP", "its attention", "its shared expert"],
    });
    expect(offeredPositions(model("scmoe-pos2", { moe_layer_interval: 1 }))[1].window[0]).toBe(
      "the preceding block's shared expert",
    );
    expect(windows(model("scmoe-pos1", { num_hidden_layers: 1, moe_layer_interval: 1 }))).toEqual([2]);
    expect(windows(model("top2"))).toEqual([]);
  });
});

describe("a converted model", () => {
  const engine = createOrtEngine();
  afterAll(() => engine.dispose());
  const T = 12;
  const tokens = Int32Array.from({ length: T }, (_, t) => (t * 7 + 3) % SIZES.vocab_size);

  /** Random weights, or none of those that a pattern names. */
  function weightsOf(config: ModelConfig, zero?: RegExp): WeightSource {
    const all = new Map(listParameters(config).map((info) => [info.name, info]));
    return {
      whenNotFinite: "",
      where: "memory",
      names: [...all.keys()],
      dims: (name) => all.get(name)?.dims ?? [],
      readInto(name, out) {
        if (zero?.test(name)) out.fill(0);
        else philox(1, name).fillNormal(out, 0, 0.3);
      },
      close: () => undefined,
    };
  }

  function logits(config: ModelConfig, source: WeightSource): Float32Array {
    const rank = createRank({ config, engine, world: singleCommunicator() });
    loadWeights(rank, source);
    const {
      program,
      tokens: fed,
      output,
    } = buildProgram(config, { batch: 1, sequence: T, epSize: 1, head: "logits" });
    const run = new Session(rank, program, { keep: [output] }).run(
      sequential(program),
      new Map([[fed, { data: tokens, dims: [T] }]]),
    );
    const { data } = run.read<Tensor<Float32Array>>(output);
    const copied = data.slice();
    run.release();
    return copied;
  }

  function converted(source: ModelConfig, to: string, weights: WeightSource, options: ConvertOptions) {
    const target = targetOf(source, to, source.arch === "dense" ? { experts: 4 } : {});
    const tensors = convertedTensors(weights, conversionOf(source, target, options), 0);
    const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    return logits(target, {
      where: "converted",
      whenNotFinite: "",
      names: [...byName.keys()],
      dims: (name) => byName.get(name)?.dims ?? [],
      readInto: (name, out) => byName.get(name)?.readInto(out, 0),
      close: () => undefined,
    });
  }

  const distance = (a: Float32Array, b: Float32Array): number =>
    Math.hypot(...a.map((v, i) => v - b[i])) / Math.hypot(...b);

  it.each<[to: string, options: { routedShare?: number }]>([
    ["top2", {}],
    ["top4", {}],
    ["scmoe-pos2", { routedShare: 0 }],
    ["scmoe2-pos3", { routedShare: 0 }],
    // Even weights of all experts, half by half.
    ["shared4", { routedShare: 0.5 }],
  ])("a dense model as %s is the dense model where its experts are alike", (to, options) => {
    for (const style of ["gpt", "llama"]) {
      const source = model("dense", { style });
      const weights = weightsOf(source);
      const found = converted(source, to, weights, { noise: 0, ...options });
      expect(distance(found, logits(source, weights))).toBeLessThan(1e-5);
      const noisy = converted(source, to, weights, { noise: 0.1, ...options });
      if (options.routedShare !== 0) expect(distance(noisy, found)).toBeGreaterThan(1e-3);
    }
  });

  it.each(["scmoe2-pos1", "scmoe2-pos2", "scmoe2-pos3", "longcat2", "farskip2", "dgmoe"])(
    "top-2 as %s is the same where the stream is the same at every position",
    (to) => {
      for (const moe_layer_interval of [1, 2]) {
        const source = model("top2", { style: "llama", moe_layer_interval });
        // Attention and dense MLPs add nothing; where every block is MoE, experts of the preceding block do.
        const weights = weightsOf(source, /o_proj|mlp\.down_proj/);
        const isSame =
          to !== "dgmoe" && (moe_layer_interval === 2 || ["scmoe2-pos1", "farskip2"].includes(to));
        const found = distance(converted(source, to, weights, { routedShare: 1 }), logits(source, weights));
        if (isSame) expect(found).toBeLessThan(1e-5);
        else expect(found).toBeGreaterThan(1e-3);
      }
    },
  );

  it("a shared expert that is kept keeps its coefficients", () => {
    const source = model("shared2", { style: "llama" });
    const weights = weightsOf(source, /o_proj|mlp\.down_proj/);
    expect(distance(converted(source, "scmoe2-pos2", weights, {}), logits(source, weights))).toBeLessThan(
      1e-5,
    );
  });
});
