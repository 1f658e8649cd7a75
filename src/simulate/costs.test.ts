import { expect, it } from "vitest";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { MeasuredCosts, agreedCosts, costDrift } from "./costs.js";

const program: Program = {
  name: "two kernels and a transfer",
  values: [],
  operators: (["mlp", "mlp", "dispatch"] as const).map((cost, id): Operator => ({
    id,
    name: `op${id}`,
    kind: "",
    stream: cost === "mlp" ? "compute" : "network",
    pass: "forward",
    reads: [],
    writes: [],
    after: [],
    cost,
    data: undefined,
  })),
};

it("agreedCosts() takes medians over the ranks that know a class", () => {
  expect(agreedCosts([{ a: 1, b: 5 }, { a: 3 }, { a: 8 }])).toEqual({ a: 3, b: 5 });
});

it("costDrift() weighs a class by how often the program has it", () => {
  const before = { "compute mlp": 10, "network dispatch": 20 };
  expect(costDrift(program, before, before).share).toBe(0);
  const slower = costDrift(program, before, { "compute mlp": 11, "network dispatch": 30 });
  expect(slower.share).toBeCloseTo((2 * 1 + 10) / 40);
  expect(slower.cost).toBe("network dispatch");
  // Drifts of opposite sign do not cancel: the order that suited the old costs may not suit the new ones.
  expect(costDrift(program, before, { "compute mlp": 15, "network dispatch": 10 }).share).toBeCloseTo(0.5);
});

it("MeasuredCosts counts a transfer from when the link was free", () => {
  const costs = new MeasuredCosts();
  const event = {
    rank: 0,
    stream: "network",
    operator: 0,
    name: "",
    cost: "dispatch",
    pass: "forward",
  } as const;
  costs.add([
    { ...event, startMs: 0, endMs: 4 },
    { ...event, startMs: 1, endMs: 8 },
    { ...event, startMs: 20, endMs: 24 },
  ]);
  expect(costs.typical()).toEqual({ "network dispatch": 4 });
});
