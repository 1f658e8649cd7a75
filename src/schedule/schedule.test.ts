/** Any legal schedule of a random program computes the same; an illegal one is refused; policies are legal and no slower than they say. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { singleCommunicator } from "../comm/single.js";
import { ARCHITECTURE_NAMES } from "../model/architectures.js";
import { resolveModel } from "../model/config.js";
import { actionsOf, madeUpProgram } from "../../test/operators.js";
import { buildProgram } from "../model/language-model.js";
import { buildTrainingProgram } from "../model/training-program.js";
import { type Operator, STREAMS } from "../program/operator.js";
import { type Program, dependencies } from "../program/program.js";
import type { RunContext, Services } from "../run/context.js";
import { Session } from "../run/session.js";
import { type Costs, unitCosts } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { adaptive } from "./adaptive.js";
import { lowerBound } from "./bound.js";
import { fixed, fourStages, numSlots } from "./fixed.js";
import { eager } from "./list-schedule.js";
import { parsePolicy } from "./policy.js";
import type { Schedule } from "../program/schedule.js";
import { orderByStream, sequential } from "./sequential.js";
import { whyIllegal } from "../program/validate.js";

/** Operators over numbers: each mixes what it reads; network operators arrive some polls later. */
const randomProgram = fc
  .array(
    fc.record({
      isNetwork: fc.boolean(),
      reads: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }),
      cost: fc.integer({ min: 1, max: 9 }),
    }),
    {
      minLength: 1,
      maxLength: 24,
    },
  )
  .map((specs) =>
    madeUpProgram(
      specs.map((spec, id) => ({
        stream: spec.isNetwork ? "network" : "compute",
        reads: [...new Set(spec.reads.map((r) => r % (id + 1)))],
        writes: [id + 1],
        work: { flops: spec.cost },
      })),
    ),
  );
const costs: Costs = (op) => op.work.flops;

function mix(op: Operator, read: (value: number) => number): number {
  return op.reads.reduce((sum, value) => Math.fround(sum * 1.37 + Math.sin(read(value) + op.id)), op.id);
}
const actions = actionsOf((op) => (context: RunContext) => {
  const value = mix(op, (v) => context.read<number>(v));
  if (op.stream === "compute") {
    context.write(op.writes[0], value, []);
    return undefined;
  }
  let polls = op.id % 5;
  const result = { bytes: [4], offsets: [0], notes: new Int32Array(0), startMs: 0, endMs: 0 };
  return {
    bytes: 4,
    queue: actions,
    pending: {
      get done() {
        return polls-- <= 0;
      },
      wait: () => result,
    },
    finish: () => context.write(op.writes[0], value, []),
  };
});

function run(program: Program, schedule: Schedule): number[] {
  const services = { world: singleCommunicator() } as unknown as Services;
  const keep = program.operators.map((op) => op.writes[0]);
  const result = new Session(services, program, { actions, keep }).run(schedule, new Map([[0, 0.5]]));
  return program.operators.map((op) => result.read<number>(op.writes[0]));
}

/** A random topological order. */
function shuffled(program: Program, seed: readonly number[]): Schedule {
  const before = dependencies(program);
  const done = new Set<number>();
  const order: number[] = [];
  while (order.length < program.operators.length) {
    const ready = program.operators.filter(
      (op) => !done.has(op.id) && before[op.id].every((b) => done.has(b)),
    );
    const { id } = ready[(seed[order.length % seed.length] ?? 0) % ready.length];
    done.add(id);
    order.push(id);
  }
  return { policy: "shuffled", order: orderByStream(program, order), edges: [], note: "" };
}

describe("random programs", () => {
  it("compute the same under every legal schedule", () => {
    fc.assert(
      fc.property(randomProgram, fc.array(fc.nat(), { minLength: 1, maxLength: 24 }), (program, seed) => {
        const wanted = run(program, sequential(program));
        for (const schedule of [shuffled(program, seed), eager(program, costs)]) {
          expect(whyIllegal(program, schedule)).toBeUndefined();
          expect(run(program, schedule)).toEqual(wanted);
        }
      }),
      { seed: 1, numRuns: 150 },
    );
  });

  it("refuse illegal schedules with the reason", () => {
    fc.assert(
      fc.property(randomProgram, fc.nat(), (program, at) => {
        const legal = sequential(program);
        const { id, stream, name } = program.operators[at % program.operators.length];
        const without = {
          ...legal,
          order: { ...legal.order, [stream]: legal.order[stream].filter((o) => o !== id) },
        };
        expect(whyIllegal(program, without)).toBe(`${name} is not scheduled`);
        const twice = { ...legal, order: { ...legal.order, [stream]: [...legal.order[stream], id] } };
        expect(whyIllegal(program, twice)).toBe(`${name} is scheduled twice`);
        const other = stream === "compute" ? "network" : "compute";
        const moved = { ...without, order: { ...without.order, [other]: [...without.order[other], id] } };
        expect(whyIllegal(program, moved)).toMatch(/it belongs to/);
        const reader = program.operators.find((op) => op.reads.some((value) => value > 0));
        if (reader === undefined) return;
        const writer = (reader.reads.find((value) => value > 0) as number) - 1;
        const backwards = { ...legal, edges: [...legal.edges, [reader.id, writer] as const] };
        expect(whyIllegal(program, backwards)).toMatch(/would wait for itself/);
        expect(() => run(program, backwards)).toThrow(/not legal/);
      }),
      { seed: 2, numRuns: 100 },
    );
  });

  it("are simulated between the lower bound and the sum of all costs", () => {
    fc.assert(
      fc.property(randomProgram, (program) => {
        const all = program.operators.reduce((sum, op) => sum + costs(op), 0);
        expect(simulate(program, sequential(program), { costs: [costs] }).summary.stepMs).toBeCloseTo(all, 6);
        const found = adaptive(program, costs);
        expect(whyIllegal(program, found)).toBeUndefined();
        const chosen = simulate(program, found, { costs: [costs] }).summary.stepMs;
        const greedy = simulate(program, eager(program, costs), { costs: [costs] }).summary.stepMs;
        expect(chosen).toBeLessThanOrEqual(greedy + 1e-9);
        expect(chosen).toBeLessThanOrEqual(all + 1e-9);
        expect(chosen).toBeGreaterThanOrEqual(lowerBound(program, costs) - 1e-9);
      }),
      { seed: 3, numRuns: 150 },
    );
  });
});

/** The fastest of all orders, by trying every one. */
function fastest(program: Program): number {
  const before = dependencies(program);
  let best = Infinity;
  const visit = (order: readonly number[]): void => {
    if (order.length === program.operators.length) {
      const schedule = { policy: "", order: orderByStream(program, order), edges: [], note: "" };
      best = Math.min(best, simulate(program, schedule, { costs: [costs], eventsOf: [] }).summary.stepMs);
      return;
    }
    for (const { id } of program.operators)
      if (!order.includes(id) && before[id].every((b) => order.includes(b))) visit([...order, id]);
  };
  visit([]);
  return best;
}

describe("small random programs", () => {
  it("have no schedule below the lower bound, and adaptive keeps what its note promises", () => {
    let numProven = 0;
    fc.assert(
      fc.property(
        randomProgram.filter(({ operators }) => operators.length <= 6),
        (program) => {
          const best = fastest(program);
          expect(lowerBound(program, costs)).toBeLessThanOrEqual(best + 1e-9);
          const schedule = adaptive(program, costs);
          const chosen = simulate(program, schedule, { costs: [costs] }).summary.stepMs;
          expect(chosen).toBeGreaterThanOrEqual(best - 1e-9);
          if (!schedule.note.includes("no schedule is faster")) return;
          expect(chosen).toBeCloseTo(best, 6);
          numProven++;
        },
      ),
      { seed: 6, numRuns: 80 },
    );
    expect(numProven).toBeGreaterThan(60);
  });
});

it("adaptive speaks of no milliseconds as long as no costs are measured", () => {
  const [small] = fc.sample(randomProgram, { numRuns: 1, seed: 1 });
  const { schedule } = parsePolicy("adaptive");
  expect(schedule(small).note).toMatch(/unit costs/);
  expect(schedule(small).note).not.toMatch(/\d ms/);
  expect(schedule(small, unitCosts).note).toMatch(/predicted \d+\.\d ms/);
});

describe.each(ARCHITECTURE_NAMES)("%s", (arch) => {
  const config = resolveModel({
    arch,
    vocab_size: 16,
    hidden_size: 8,
    intermediate_size: 16,
    num_attention_heads: 2,
    num_hidden_layers: 6,
    num_experts: 4,
    max_position_embeddings: 8,
  });
  it.each(["forward", "training"])("has legal schedules of every policy (%s)", (of) => {
    for (const chunks of [1, 2]) {
      const options = { batch: 1, sequence: 8, epSize: 2, chunks };
      const { program } =
        of === "training"
          ? buildTrainingProgram(config, options)
          : buildProgram(config, { ...options, head: "losses" });
      const schedules = [sequential(program), eager(program, unitCosts), adaptive(program, unitCosts)];
      schedules.push(fourStages(program));
      for (let slot = 1; slot <= numSlots(program); slot++)
        schedules.push(fixed(program, { forward: slot, backward: slot }));
      for (const schedule of schedules)
        expect(whyIllegal(program, schedule), schedule.policy).toBeUndefined();
      for (const stream of STREAMS)
        expect(new Set(schedules.map((s) => s.order[stream].length)).size).toBe(1);
      const time = (s: Schedule): number => simulate(program, s, { costs: [unitCosts] }).summary.stepMs;
      expect(time(schedules[2])).toBeLessThanOrEqual(Math.min(...schedules.map(time)) + 1e-9);
    }
  });
});
