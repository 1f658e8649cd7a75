/** Models have the sizes that are stated of them; the paper's (method 11.2) as standard top-2 MoE: a shared expert adds its own. */
import { expect, it } from "vitest";
import { resolveModel } from "./config.js";
import { countParameters, listParameters } from "./parameters.js";
import { preset } from "./presets.js";

it.each([
  ["gpt2-moe-small", 323e6],
  // Stated as 1.7 B, which its routed experts and attention have (1.71 B); dense MLPs and embeddings add 0.15 B.
  ["gpt2-moe-medium", 1.867e9],
  ["gpt3-moe-xl", 4.1e9],
  ["llama2-moe", 6.7e9],
])("%s has %d parameters within 2 %%", (name, stated) => {
  const { total } = countParameters(resolveModel({ ...preset(name), arch: "top2" }));
  expect(Math.abs(total / stated - 1)).toBeLessThan(0.02);
});

it("longcat-flash has the parameters that are stated of it (560.66 B with 56 attentions of 90.57 M)", () => {
  const all = listParameters(resolveModel(preset("longcat-flash")));
  const others = all.filter(({ name }) => !name.includes("self_attn"));
  const total = others.reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0);
  expect(Math.abs(total / (560.66e9 - 56 * 90.57e6) - 1)).toBeLessThan(1e-4);
});
