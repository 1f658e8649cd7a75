import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { madeUpProgram } from "../../test/operators.js";
import { MeasuredCosts, agreedCosts, costDrift, estimatedCosts, tableCosts } from "./costs.js";

const kernel = { reads: [], writes: [], work: { class: "mlp" } } as const;
const transfer = { stream: "network", reads: [], writes: [], work: { class: "dispatch" } } as const;
const program = madeUpProgram([kernel, kernel, transfer]);
/** What the kernels have in common, and the transfer's. */
const [mlp, , dispatch] = program.operators.map((op) => op.cost);

it("agreedCosts() takes medians over the ranks that know a class", () => {
  expect(agreedCosts([{ a: 1, b: 5 }, { a: 3 }, { a: 8 }])).toEqual({ a: 3, b: 5 });
});

it("costDrift() weighs a class by how often the program has it", () => {
  const before = { [mlp]: 10, [dispatch]: 20 };
  expect(costDrift(program, before, before).share).toBe(0);
  const slower = costDrift(program, before, { [mlp]: 11, [dispatch]: 30 });
  expect(slower.share).toBeCloseTo((2 * 1 + 10) / 40);
  expect(slower.most).toBe(program.operators[2]);
  // Drifts of opposite sign do not cancel: the order that suited the old costs may not suit the new ones.
  expect(costDrift(program, before, { [mlp]: 15, [dispatch]: 10 }).share).toBeCloseTo(0.5);
});

it("MeasuredCosts counts a transfer from when the link was free", () => {
  const costs = new MeasuredCosts();
  const event = {
    rank: 0,
    stream: "network",
    operator: 0,
    name: "",
    cost: "what it costs",
    class: "dispatch",
    pass: "forward",
  } as const;
  costs.add([
    { ...event, startMs: 0, endMs: 4 },
    { ...event, startMs: 1, endMs: 8 },
    { ...event, startMs: 20, endMs: 24 },
  ]);
  expect(costs.typical()).toEqual({ "what it costs": 4 });
  // By operator: what costs alike in one layer and in another is told apart.
  const own = new MeasuredCosts(({ operator }) => String(operator));
  for (const [operator, ms] of [
    [0, 2],
    [1, 9],
    [0, 4],
  ])
    own.add([{ ...event, stream: "compute", operator, startMs: 0, endMs: ms }]);
  expect(own.typical()).toEqual({ 0: 3, 1: 9 });
});

describe("an operator whose cost nobody has measured", () => {
  const sized = (flops: number, bytes = 0) =>
    ({ reads: [], writes: [], work: { class: "mlp", flops, bytes } }) as const;
  const sent = (bytes: number) =>
    ({ stream: "network", reads: [], writes: [], work: { class: "dispatch", bytes } }) as const;

  it("has no place in a table of costs", () => {
    const { operators } = madeUpProgram([sized(100), { ...sized(200), name: "L3.mlp" }]);
    const costs = tableCosts({ [operators[0].cost]: 5 });
    expect(costs(operators[0])).toBe(5);
    expect(() => costs(operators[1])).toThrow(InputError);
    expect(() => costs(operators[1])).toThrow(
      /^No cost is known of L3\.mlp \(.*200 flop.*\); measure a program that has it$/,
    );
  });

  it("is estimated from its work during a run, stream by stream, which is said once", () => {
    const measured = madeUpProgram([sized(100), sent(64), sized(0, 50)]);
    const [kernel, transfer, copy] = measured.operators.map((op) => op.cost);
    const said: string[] = [];
    const costs = estimatedCosts({ [kernel]: 6, [transfer]: 1, [copy]: 2 }, [measured], (line) =>
      said.push(line),
    );
    expect(measured.operators.map(costs)).toEqual([6, 1, 2]);
    expect(said).toEqual([]);
    const other = madeUpProgram([
      { ...sized(150), name: "L3.mlp" },
      sized(300),
      sized(0, 25),
      sized(0, 500),
      sent(32),
      sent(640),
      { stream: "storage", reads: [], writes: [] },
    ]);
    // The compute stream did 100 flop and 50 bytes in 8 ms, the network 64 bytes in 1 ms, storage nothing.
    const wanted = [12, 24, 4, 80, 0.5, 10, 0];
    other.operators.map(costs).forEach((ms, i) => expect(ms).toBeCloseTo(wanted[i], 9));
    other.operators.forEach(costs);
    expect(said).toEqual(["No cost is known of mlp (L3.mlp): estimated from its work, 12.00 ms"]);
  });
});
