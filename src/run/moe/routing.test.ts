import { expect, it } from "vitest";
import type { MoeShape } from "../../program/kinds.js";
import { type Routing, route } from "./routing.js";

const N = 4;
const shape: MoeShape = {
  layer: 1,
  numExperts: N,
  topK: 2,
  capacityFactor: null,
  renormalize: true,
  scores: "softmax",
  scaling: 1,
  numZeroExperts: 0,
  width: 8,
  epSize: 1,
  wire: "f32",
};

function routed(rows: readonly number[][], of: Partial<MoeShape> = {}): Routing {
  const wanted = { ...shape, ...of };
  const weights = new Float32Array(rows.length * wanted.topK);
  return route(Float32Array.from(rows.flat()), weights, { shape: wanted });
}

it("a token with a gate logit that is not finite chooses different experts, and is counted", () => {
  const { choice, numNonFinite } = routed([
    [1, 2, 4, 3],
    [NaN, 0, 0, 0],
    [0, Infinity, 0, 0],
    [-Infinity, 5, 1, 0],
  ]);
  expect(numNonFinite).toBe(3);
  expect([...choice]).toEqual([2, 3, 0, 1, 0, 1, 0, 1]);
});

it("ties go to the lower index", () => {
  expect([...routed([[0, 7, 7, 7]]).choice]).toEqual([1, 2]);
  expect([...routed([[3, 3, 3, 3]], { topK: 4 }).choice]).toEqual([0, 1, 2, 3]);
});

it("every token to one expert with capacity 1: the first tokens have its rows, the others none", () => {
  const rows = Array.from({ length: 8 }, () => [9, 0, 0, 0]);
  const { rowInExpert, numDropped, load } = routed(rows, { topK: 1, capacityFactor: 1 });
  expect([...rowInExpert]).toEqual([0, 1, -1, -1, -1, -1, -1, -1]);
  expect([numDropped, [...load]]).toEqual([6, [2, 0, 0, 0]]);
});
