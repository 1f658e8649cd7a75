import { expect, it } from "vitest";
import * as k from "./build.js";
import { differentiate } from "./differentiate.js";
import type { Expr, Kernel } from "./kernel.js";
import { kernelKey } from "./key.js";

/** y = xw + z·softplus(xv), as a noisy gate. */
const noisy = (z: Expr): Kernel => {
  const x = k.input("x", ["T", 4]);
  const spread = k.softplus(k.linear(x, k.parameter("v", [3, 4])));
  return k.kernel("noisy", { y: k.add(k.linear(x, k.parameter("w", [3, 4])), k.mul(z, spread)) });
};

it("a constant input has no gradient; all others are the same expressions", () => {
  const { backward } = differentiate(noisy(k.constantInput("z", ["T", 3])));
  expect(backward.outputs.map((o) => o.name)).toEqual(["d_x", "g_w", "g_v"]);
  const all = differentiate(noisy(k.input("z", ["T", 3]))).backward;
  const without = k.kernel(
    all.name,
    Object.fromEntries(all.outputs.filter((o) => o.name !== "d_z").map((o) => [o.name, o.expr])),
    { g_w: "g_w", g_v: "g_v" },
  );
  const key = (kernel: Kernel) =>
    kernelKey(kernel).replaceAll(/"constant"|:constant/g, (role) => role.replace("constant", "input"));
  expect(key(backward)).toBe(key(without));
});

it("integers are constants", () => {
  const losses = k.crossEntropy(k.input("logits", ["T", 5]), k.input("labels", ["T"], "i32"));
  const kernel = k.kernel("loss", { losses });
  expect(kernel.inputs.map((i) => i.role)).toEqual(["input", "constant"]);
  expect(differentiate(kernel).backward.outputs.map((o) => o.name)).toEqual(["d_logits"]);
});
