/** The searches have faster forms of the virtual clock's rules: they say the same, for all three streams. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { smallModel } from "../../test/small-model.js";
import { type MadeUp, choices, madeUp, randomProgram, randomSchedule } from "../../test/random-program.js";
import { buildTrainingProgram } from "../model/training-program.js";
import { ancestorsOf, graphOf } from "../program/graph.js";
import { repeatProgram } from "../program/repeat.js";
import { unitCosts } from "../simulate/costs.js";
import { STREAMS, type Stream } from "../program/operator.js";
import type { Schedule } from "../program/schedule.js";
import { whyIllegal } from "../program/validate.js";
import { runClock } from "../simulate/clock.js";
import { lowerBound } from "./bound.js";
import { placeSegment } from "./exhaustive.js";
import { improve } from "./improve.js";
import { listSchedule } from "./list-schedule.js";
import { searchPriorities } from "./priorities.js";
import { problemOf } from "./segments.js";

const ms = fc.integer({ min: 0, max: 9 });

function clock({ program, cost }: MadeUp, order: Schedule["order"], edges: Schedule["edges"] = []): number {
  expect(whyIllegal(program, { policy: "", order, edges, note: "" })).toBeUndefined();
  return runClock(program, { order, edges }, { costs: [cost] });
}

describe("listSchedule()", () => {
  it("predicts what the clock says of its order", () => {
    fc.assert(
      fc.property(randomProgram(24, ms), (of) => {
        const found = listSchedule(of.program, { cost: of.cost });
        expect(found.ms).toBe(clock(of, found.order));
      }),
      { seed: 12, numRuns: 300 },
    );
  });

  it("does so with a sequence, and with transfers held back behind others of their stream", () => {
    let numHeld = 0;
    fc.assert(
      fc.property(randomProgram(24, ms), choices, fc.boolean(), (of, to, isPart) => {
        const { program, cost } = of;
        const legal = randomSchedule(of, to).order;
        const sequence = legal.compute.filter((id) => !isPart || id % 2 === 0);
        // Holds against the order that the list would choose.
        const free = listSchedule(program, { cost, sequence });
        expect(free.ms).toBe(clock(of, free.order));
        const [a, b] = free.order.network;
        if (b === undefined || ancestorsOf(program).has(b, a)) return;
        const held = listSchedule(program, { cost, sequence, holds: [[b, a]] });
        if (held.ms === Infinity) return;
        numHeld++;
        expect(held.ms).toBe(clock(of, held.order, [[b, a]]));
      }),
      { seed: 13, numRuns: 300 },
    );
    expect(numHeld).toBeGreaterThan(20);
  });
});

describe("improve()", () => {
  it("predicts what the clock says, and is never slower than where it began", () => {
    fc.assert(
      fc.property(randomProgram(24, ms), choices, (of, to) => {
        const { program, cost } = of;
        const sequence = randomSchedule(of, to).order.compute;
        const start = listSchedule(program, { cost, sequence });
        const found = improve(program, sequence, { cost, attempts: 50, boundMs: 0 });
        expect(found.ms).toBeLessThanOrEqual(start.ms);
        // Behind what holds it back a transfer queues on its link: without the hold it ends no later.
        expect(clock(of, found.order)).toBeLessThanOrEqual(found.ms + 1e-9);
      }),
      { seed: 14, numRuns: 150 },
    );
  });
});

describe("searchPriorities()", () => {
  const config = smallModel("scmoe-pos2");
  const { program: micro } = buildTrainingProgram(config, { batch: 2, sequence: 16, epSize: 2 });
  const { program } = repeatProgram(micro, 3);
  // Transfers as long as the window: which micro-batch goes first makes a difference.
  const cost = Float64Array.from(program.operators, (op) => (op.stream === "network" ? 4 : unitCosts(op)));

  it("finds faster orders of micro-batches side by side than one priority for all, the same ones every time", () => {
    const search = () => searchPriorities(program, { cost, attempts: 300, boundMs: 0 });
    const [found, again] = [search(), search()];
    expect(found.order).toEqual(again.order);
    expect(found.ms).toBeLessThan(listSchedule(program, { cost }).ms);
    expect(found.ms).toBeCloseTo(clock({ program, cost }, found.order), 9);
    expect(searchPriorities(program, { cost, attempts: 1, boundMs: 0 }).order).toEqual(
      listSchedule(program, { cost }).order,
    );
  });

  it("ends when no order can be faster", () => {
    const { ms: listed } = listSchedule(program, { cost });
    const found = searchPriorities(program, { cost, attempts: 1e9, boundMs: listed });
    expect(found.ms).toBe(listed);
  });
});

/** Nothing after the last operator: the program is one segment. */
function closed({ program, cost }: MadeUp): MadeUp {
  const jobs = program.operators.map(({ stream, reads, id }) => ({ stream, waitsFor: reads, ms: cost[id] }));
  return madeUp([...jobs, { stream: "compute", waitsFor: [...jobs.keys()], ms: 1 }]);
}

/** The fastest of all orders of all streams, by trying every one. */
function fastest(of: MadeUp): number {
  const { before } = graphOf(of.program);
  let best = Infinity;
  const seen = new Set<string>();
  const visit = (order: Record<Stream, number[]>, done: number): void => {
    if (done === before.length) return void (best = Math.min(best, clock(of, order)));
    const isDone = (id: number): boolean => STREAMS.some((stream) => order[stream].includes(id));
    for (const { id, stream } of of.program.operators) {
      if (isDone(id) || !before[id].every(isDone)) continue;
      const next = { ...order, [stream]: [...order[stream], id] };
      const key = JSON.stringify(next);
      if (seen.has(key)) continue;
      seen.add(key);
      visit(next, done + 1);
    }
  };
  visit({ compute: [], network: [], storage: [] }, 0);
  return best;
}

describe("placeSegment()", () => {
  it("predicts what the clock says of the order that it names", () => {
    let numOptimal = 0;
    fc.assert(
      fc.property(randomProgram(12, ms), (random) => {
        const of = closed(random);
        const ids = [...of.cost.keys()];
        const placed = placeSegment(problemOf(of.program, { ids }, of.cost));
        expect(placed?.ms).toBe(clock(of, placed?.order as Schedule["order"]));
        if (placed?.isOptimal) numOptimal++;
      }),
      { seed: 15, numRuns: 200 },
    );
    expect(numOptimal).toBeGreaterThan(20);
  });

  it("calls optimal only what no other order is faster than, storage in it or not", () => {
    let numOptimal = 0;
    fc.assert(
      fc.property(randomProgram(6, ms), (random) => {
        const of = closed(random);
        const placed = placeSegment(problemOf(of.program, { ids: [...of.cost.keys()] }, of.cost));
        const best = fastest(of);
        expect(placed?.ms).toBeGreaterThanOrEqual(best);
        if (!placed?.isOptimal) return;
        numOptimal++;
        expect(placed.ms).toBe(best);
      }),
      { seed: 16, numRuns: 150 },
    );
    expect(numOptimal).toBeGreaterThan(50);
  });
});

describe("lowerBound()", () => {
  it("is never above what the clock says of a legal schedule", () => {
    fc.assert(
      fc.property(randomProgram(24, ms), choices, (of, to) => {
        const bound = lowerBound(of.program, (op) => of.cost[op.id]);
        expect(bound).toBeLessThanOrEqual(clock(of, randomSchedule(of, to).order) + 1e-9);
        expect(bound).toBeLessThanOrEqual(listSchedule(of.program, { cost: of.cost }).ms + 1e-9);
      }),
      { seed: 17, numRuns: 200 },
    );
  });

  it("counts the storage of a rank as one machine", () => {
    const load = { stream: "storage", waitsFor: [], ms: 5 } as const;
    const of = madeUp([load, load, load, { stream: "compute", waitsFor: [0, 1, 2], ms: 2 }]);
    expect(lowerBound(of.program, (op) => of.cost[op.id])).toBe(17);
    expect(clock(of, { compute: [3], network: [], storage: [0, 1, 2] })).toBe(17);
  });
});
