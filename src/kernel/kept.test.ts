import { expect, it } from "vitest";
import * as k from "./build.js";
import { differentiate } from "./differentiate.js";
import type { Expr } from "./kernel.js";

const [x, w] = [k.input("x", ["T", 8]), k.parameter("w", [12, 8])];
const projected = k.linear(x, w);
const part = (start: number, end: number): Expr => k.slice(projected, 1, start, end);
const heads = (e: Expr): Expr => k.transpose(k.reshape(e, ["B", 5, 2, 3]), [0, 2, 1, 3]);
const turned = (e: Expr): Expr => k.add(k.mul(e, k.scalar(0.6)), k.mul(k.neg(e), k.scalar(0.8)));
const twice = (e: Expr): Expr => k.concat([e, e], 1);

it.each<[string, Expr[], string[]]>([
  ["a result that backward reads", [k.gelu(projected)], ["linear Tx12"]],
  ["not one that it does not read", [k.add(projected, k.scalar(1))], []],
  ["one behind a turn, turned", [k.gelu(turned(projected))], ["add Tx12"]],
  ["as it is if backward reads it so", [k.mul(turned(projected), projected)], ["linear Tx12"]],
  [
    "parts, each as it is read",
    [heads(part(0, 6)), part(6, 12)].map(k.gelu),
    ["slice Tx6", "transpose Bx2x5x3"],
  ],
  ["the whole if parts overlap", [part(0, 8), part(4, 12)].map(k.gelu), ["linear Tx12"]],
  ["not what grows on the way", [k.gelu(twice(projected))], ["linear Tx12"]],
  ["what two become", [k.gelu(k.add(projected, k.linear(x, k.parameter("v", [12, 8]))))], ["add Tx12"]],
])("keeps %s", (_name, results, wanted) => {
  const outputs = Object.fromEntries(results.map((expr, i) => [`y_${i}`, expr]));
  const { forward, saved } = differentiate(k.kernel("kernel", outputs));
  const kept = forward.outputs.filter(({ name }) => saved.includes(name));
  expect(kept.map(({ expr }) => `${expr.op} ${expr.dims.join("x")}`).sort()).toEqual(wanted);
});
