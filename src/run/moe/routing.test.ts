import { describe, expect, it } from "vitest";
import { philox } from "../../core/rng.js";
import type { MoeShape } from "../../program/kinds.js";
import { balanceLoss, numLogits } from "./balance-classes.js";
import { routeGradient } from "./routing-gradient.js";
import { type Routing, route, zLoss } from "./routing.js";

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
  activeExperts: 2,
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

describe("groups", () => {
  const groups = (kept: number, score: "best" | "two_best") => ({ groups: { count: 2, kept, score } });

  it("experts of other groups are out, however good", () => {
    expect([...routed([[1, 3, 2, 2.9]], groups(1, "best")).choice]).toEqual([1, 0]);
    expect([...routed([[1, 3, 2, 2.9]], groups(1, "two_best")).choice]).toEqual([3, 2]);
    expect([...routed([[1, 3, 2, 2.9]], groups(2, "two_best")).choice]).toEqual([1, 3]);
  });

  it("ties among groups go to the lower one", () => {
    expect([...routed([[1, 2, 2, 1]], groups(1, "best")).choice]).toEqual([1, 0]);
    expect([...routed([[1, 2, 2, 1]], groups(1, "two_best")).choice]).toEqual([1, 0]);
  });

  it("go by scores with the selection bias, weights by scores without", () => {
    const wanted = {
      ...shape,
      ...groups(1, "best"),
      renormalize: false,
      scaling: 3,
      scores: "sigmoid" as const,
    };
    const weights = new Float32Array(2);
    const selectionBias = Float32Array.of(0, 0, 0.5, 0);
    const { choice } = route(Float32Array.of(1, 0, 0, -1), weights, { shape: wanted, selectionBias });
    expect([...choice]).toEqual([2, 3]);
    expect(weights[0]).toBeCloseTo(1.5, 6);
    expect(weights[1]).toBeCloseTo(3 / (1 + Math.exp(1)), 6);
  });
});

describe("zero experts", () => {
  const zero = { numZeroExperts: 2, renormalize: false, activeExperts: 4 / 3, capacityFactor: 0.5 };

  it("are chosen by logits after those of the experts, take no row, and are never full", () => {
    const rows = Array.from({ length: 4 }, () => [2, 1, 0, 0, 0, 3]);
    const { choice, rowInExpert, load, numDropped, numZeroChoices } = routed(rows, zero);
    expect([...choice]).toEqual([5, 0, 5, 0, 5, 0, 5, 0]);
    expect([...rowInExpert]).toEqual([-1, 0, -1, -1, -1, -1, -1, -1]);
    expect([[...load], numDropped, numZeroChoices]).toEqual([[1, 0, 0, 0], 3, 4]);
  });

  it("keep their weight without a row", () => {
    const weights = new Float32Array(4);
    const logits = Float32Array.of(2, 1, 0, 0, 0, 3, 2, 1, 0, 0, 0, 3);
    const { probabilities: p } = route(logits, weights, { shape: { ...shape, ...zero } });
    expect([...weights]).toEqual([p[5], p[0], p[11], 0]);
  });
});

describe("what the balance loss counts", () => {
  it("of groups: a token once for each that it chooses from, and the zero experts as one", () => {
    const wanted = { balanceGroups: 2, numZeroExperts: 2, activeExperts: 1.5 };
    const found = routed(
      [
        [5, 4, 0, 0, 0, 0],
        [5, 0, 0, 4, 0, 0],
        [5, 0, 0, 0, 0, 4],
        [0, 0, 0, 0, 4, 4],
      ],
      wanted,
    );
    expect([...found.counted]).toEqual([3, 1, 2]);
    const P = [0, 1, 2].map((group) => {
      let sum = 0;
      for (let t = 0; t < 4; t++)
        for (let i = 2 * group; i < 2 * group + 2; i++) sum += found.probabilities[6 * t + i];
      return sum / 4;
    });
    const f = [(2 / 1.5) * (3 / 4), (2 / 1.5) * (1 / 4), (1 / 0.5) * (2 / 4)];
    expect(balanceLoss(found.classes, found)).toBeCloseTo(f[0] * P[0] + f[1] * P[1] + f[2] * P[2], 6);
  });
});

/** Σ weights · direction + balance and z losses, as `routeGradient` differentiates it, in f64 but for stored scores. */
describe("gradient against differences", () => {
  const T = 6;
  const cases: [string, Partial<MoeShape>][] = [
    ["softmax", {}],
    ["softmax, as they are, scaled", { renormalize: false, scaling: 2.5 }],
    ["softmax, dropped rows", { capacityFactor: 0.7 }],
    ["sigmoid, renormalised, scaled", { scores: "sigmoid", scaling: 2.5 }],
    ["sigmoid, as they are", { scores: "sigmoid", renormalize: false }],
    ["sigmoid, one choice always renormalised", { scores: "sigmoid", topK: 1 }],
    ["sigmoid, groups", { scores: "sigmoid", groups: { count: 2, kept: 1, score: "two_best" } }],
    ["zero experts", { numZeroExperts: 3, topK: 3, activeExperts: 1.7, renormalize: false, scaling: 6 }],
    ["zero experts, renormalised", { numZeroExperts: 2, activeExperts: 1.3 }],
    ["balance of groups", { balanceGroups: 2, numZeroExperts: 2, activeExperts: 1.3 }],
    ["balance of groups, sigmoid", { balanceGroups: 2, scores: "sigmoid" }],
  ];
  it.each(cases)("%s", (_, of) => {
    const wanted = { ...shape, ...of };
    const [K, M] = [wanted.topK, numLogits(wanted)];
    const random = philox(5, "logits");
    const logits = Float32Array.from({ length: T * M }, (_x, i) => 1.5 * random.normal(i));
    const dWeights = Float32Array.from({ length: T * K }, (_x, i) => random.normal(1000 + i));
    const [balanceScale, zScale] = [0.3, 0.2];
    const first = route(logits, new Float32Array(T * K), { shape: wanted });
    const loss = (): number => {
      const weights = new Float32Array(T * K);
      const routing = route(logits, weights, { shape: wanted });
      expect([...routing.choice]).toEqual([...first.choice]);
      expect([...routing.counted]).toEqual([...first.counted]);
      const ofWeights = weights.reduce((sum, w, i) => sum + w * dWeights[i], 0);
      return ofWeights + balanceScale * balanceLoss(routing.classes, routing) + zScale * zLoss(routing);
    };
    const dLogits = new Float32Array(T * M);
    routeGradient(dLogits, dWeights, first, wanted, { balanceScale, zScale });
    const step = 1 / 128;
    for (let i = 0; i < T * M; i++) {
      const at = logits[i];
      const [up, down] = [step, -step].map((by) => {
        logits[i] = at + by;
        const found = loss();
        logits[i] = at;
        return found;
      });
      expect(Math.abs((up - down) / (2 * step) - dLogits[i])).toBeLessThan(3e-4);
    }
  });
});
