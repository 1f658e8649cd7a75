/** The virtual clock against a simulation that is too simple to be wrong, and what groups and storage mean. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Job, choices, madeUp, randomProgram, randomSchedule } from "../../test/random-program.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import type { Schedule } from "../program/schedule.js";
import { graphOf } from "../program/graph.js";
import { resolveModel } from "../model/config.js";
import { buildTrainingProgram } from "../model/training-program.js";
import { eager } from "../schedule/list-schedule.js";
import { sequential } from "../schedule/sequential.js";
import { whyIllegal } from "../program/validate.js";
import type { TimelineEvent } from "../timeline/timeline.js";
import type { Costs } from "./costs.js";
import { runClock } from "./clock.js";
import type { Network } from "./network.js";
import { simulate } from "./simulate.js";

interface Times {
  readonly issued: number;
  readonly start: number;
  readonly end: number;
}

/** A network whose transfers occupy one port of each of their ranks for `ms`. */
const onePort = (ms: ArrayLike<number>, groupSize: (op: Operator) => number): Network => ({
  ranksPerNode: 8,
  intraBytesPerMs: 1,
  interBytesPerMs: 1,
  latencyMs: 0,
  traffic: (op) => {
    const size = groupSize(op);
    return { intraBytes: new Float64Array(size).fill(ms[op.id]), interBytes: new Float64Array(size) };
  },
  groupSize,
});

/** From one moment at which something ends to the next: whatever may start then does. By rank, then by operator. */
function naive(
  program: Program,
  { order }: Schedule,
  costs: readonly Float64Array[],
  groupSize: (op: Operator) => number,
): Times[][] {
  const { before } = graphOf(program);
  const ran: Times[][] = costs.map(() => []);
  const issued: number[][] = costs.map(() => []);
  const free = costs.map(() => ({ compute: 0, network: 0, storage: 0 }));
  const isReady = (rank: number, id: number, now: number): boolean =>
    before[id].every((b) => ran[rank][b]?.end <= now);
  for (let now = 0; now < Infinity;) {
    for (let rank = 0; rank < costs.length; rank++) {
      if (free[rank].compute > now) continue;
      const run = (id: number, stream: "compute" | "storage"): void => {
        const start = Math.max(now, free[rank][stream]);
        free[rank][stream] = start + costs[rank][id];
        ran[rank][id] = { issued: now, start, end: free[rank][stream] };
      };
      let id: number | undefined;
      do {
        const heads = order.network.filter((n) => issued[rank][n] === undefined);
        for (let i = 0; i < heads.length && isReady(rank, heads[i], now); i++) issued[rank][heads[i]] = now;
        const loads = order.storage.filter((n) => ran[rank][n] === undefined);
        for (let i = 0; i < loads.length && isReady(rank, loads[i], now); i++) run(loads[i], "storage");
        id = order.compute.find((n) => ran[rank][n] === undefined);
        if (id === undefined || !isReady(rank, id, now)) break;
        run(id, "compute");
      } while (ran[rank][id].end === now);
    }
    for (const id of order.network) {
      const size = groupSize(program.operators[id]);
      for (let first = 0; first < costs.length; first += size) {
        const peers = Array.from({ length: size }, (_, i) => first + i);
        if (ran[first][id] !== undefined || peers.some((p) => issued[p][id] === undefined)) continue;
        for (const peer of peers) {
          free[peer].network = Math.max(now, free[peer].network) + costs[0][id];
          ran[peer][id] = { issued: issued[peer][id], start: now, end: free[peer].network };
        }
      }
    }
    now = Math.min(...ran.flatMap((of) => of.flatMap(({ end }) => (end > now ? [end] : []))));
  }
  return ran;
}

/** What the clock reports, in the same form. */
function clocked(program: Program, schedule: Schedule, options: Parameters<typeof runClock>[2]): Times[][] {
  const ran: Times[][] = options.costs.map(() => []);
  runClock(program, schedule, {
    ...options,
    watch: {
      ran: (op, rank, start, end, issued) => (ran[rank][op.id] = { issued: issued ?? start, start, end }),
      stoodStill: (_, rank, start, end) => expect(end, `rank ${rank}`).toBeGreaterThan(start),
    },
  });
  return ran;
}

describe("runClock()", () => {
  it("is the simulation that looks at every rank at every moment", () => {
    const sizes = fc.array(fc.constantFrom(1, 2, 4), { minLength: 1, maxLength: 24 });
    const ms = fc.integer({ min: 1, max: 1_000_000 });
    fc.assert(
      fc.property(
        randomProgram(24, ms),
        choices,
        sizes,
        fc.array(fc.double({ min: 0.2, max: 4, noNaN: true }), { minLength: 4, maxLength: 4 }),
        (of, to, groups, by) => {
          const schedule = randomSchedule(of, to);
          const groupSize = (op: Operator): number => groups[op.id % groups.length];
          // Transfers cost every rank the same, the rest is slower on some, and some computing takes no time.
          const isFree = (id: number): boolean =>
            id % 3 === 0 && of.program.operators[id].stream === "compute";
          const costs = by.map((factor) =>
            of.cost.map((x, id) => {
              if (of.program.operators[id].stream === "network") return x;
              return isFree(id) ? 0 : x * factor;
            }),
          );
          const wanted = naive(of.program, schedule, costs, groupSize);
          const network = onePort(of.cost, groupSize);
          expect(clocked(of.program, schedule, { costs, network })).toEqual(wanted);
        },
      ),
      { seed: 102, numRuns: 400 },
    );
  });

  it("comes to the end of programs whose operators take no time", () => {
    const zeros = fc.array(fc.constantFrom(0, 1), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(randomProgram(24, fc.integer({ min: 0, max: 2 })), choices, zeros, (of, to, factors) => {
        const costs = factors.map((factor) => of.cost.map((ms) => ms * factor));
        const network = onePort(of.cost, (op) => 1 + (op.id % 2));
        const ran = clocked(of.program, randomSchedule(of, to), { costs, network });
        for (const times of ran) expect(times.filter(({ end }) => end >= 0)).toHaveLength(of.cost.length);
      }),
      { seed: 18, numRuns: 300 },
    );
  });

  it("begins a transfer whose group is complete though an older one of another group waits for a late rank", () => {
    // Operator 1 is all ranks' transfer and operator 2 one of pairs; rank 3 is late to both.
    const jobs: Job[] = [
      { stream: "compute", waitsFor: [], ms: 1 },
      { stream: "network", waitsFor: [0], ms: 10 },
      { stream: "network", waitsFor: [0], ms: 5 },
      { stream: "compute", waitsFor: [2], ms: 1 },
      { stream: "compute", waitsFor: [1], ms: 1 },
    ];
    const { program, cost } = madeUp(jobs);
    const late = Float64Array.from(cost, (ms, id) => (id === 0 ? 100 : ms));
    const ran = clocked(program, sequentialOrder(program), {
      costs: [cost, cost, cost, late],
      network: onePort(cost, (op) => (op.id === 2 ? 2 : 4)),
    });
    for (const rank of [0, 1]) {
      expect(ran[rank][2]).toEqual({ issued: 1, start: 1, end: 6 });
      // What it brought is used at once.
      expect(ran[rank][3]).toMatchObject({ start: 6, end: 7 });
      expect(ran[rank][1]).toEqual({ issued: 1, start: 100, end: 110 });
    }
    // In the pair of the late rank both begin when it comes, the older one first through the port.
    for (const rank of [2, 3]) {
      expect(ran[rank][1]).toMatchObject({ start: 100, end: 110 });
      expect(ran[rank][2]).toMatchObject({ start: 100, end: 115 });
    }
  });

  it("lets a port carry first what begins first, whatever the order of the stream", () => {
    const { program, cost } = madeUp([
      { stream: "compute", waitsFor: [], ms: 1 },
      { stream: "network", waitsFor: [0], ms: 10 },
      { stream: "network", waitsFor: [0], ms: 50 },
    ]);
    const late = Float64Array.from(cost, (ms, id) => (id === 0 ? 20 : ms));
    const ran = clocked(program, sequentialOrder(program), {
      costs: [cost, cost, late, late],
      network: onePort(cost, (op) => (op.id === 2 ? 2 : 4)),
    });
    expect(ran[0][2]).toMatchObject({ start: 1, end: 51 });
    expect(ran[0][1]).toMatchObject({ start: 20, end: 61 });
    expect(ran[3][1]).toMatchObject({ start: 20, end: 30 });
  });
});

describe("an operator on the storage stream", () => {
  const config = resolveModel({
    arch: "shared",
    vocab_size: 16,
    hidden_size: 8,
    intermediate_size: 16,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 8,
    max_position_embeddings: 8,
  });
  const { program } = buildTrainingProgram(config, { batch: 1, sequence: 8, epSize: 4 });
  const [first, second] = program.operators.filter((op) => op.stream === "network").map((op) => op.id);
  const loads = new Set([first, second]);
  const stored: Program = {
    ...program,
    operators: program.operators.map((op) =>
      loads.has(op.id) ? ({ ...op, stream: "storage" } as unknown as Operator) : op,
    ),
  };
  const costs: Costs = (op) => (loads.has(op.id) ? 7 : op.stream === "compute" ? 2 : 0.5);

  it("starts, overlaps, is waited for and is drawn as a transfer of the network is", () => {
    const schedule = eager(stored, costs);
    expect(whyIllegal(stored, schedule)).toBeUndefined();
    expect(schedule.order.storage).toEqual([first, second]);
    const { events, exposed } = simulate(stored, schedule, { costs: [costs, costs] });
    const reader = stored.operators.find((op) => graphOf(stored).before[op.id].includes(first)) as Operator;
    for (const rank of [0, 1]) {
      const of = (id: number) => events.find((e) => e.rank === rank && e.operator === id) as TimelineEvent;
      const load = of(first);
      expect(load).toMatchObject({ stream: "storage", issuedMs: load.startMs, endMs: load.startMs + 7 });
      const meanwhile = events.filter(
        (e) => e.rank === rank && e.stream === "compute" && e.startMs < load.endMs && e.endMs > load.startMs,
      );
      expect(meanwhile.length).toBeGreaterThan(0);
      expect(of(reader.id).startMs).toBeGreaterThanOrEqual(load.endMs);
      const wait = exposed.find((e) => e.rank === rank && e.endMs === load.endMs);
      expect(wait).toMatchObject({ waitingFor: reader.name });
    }
  });

  it("takes its time when one operator runs after another", () => {
    const all = stored.operators.reduce((sum, op) => sum + costs(op), 0);
    expect(simulate(stored, sequential(stored), { costs: [costs] }).summary.stepMs).toBeCloseTo(all, 9);
  });

  it("begins when the rank's storage is free, and each rank has its own", () => {
    const { program, cost } = madeUp([
      { stream: "storage", waitsFor: [], ms: 4 },
      { stream: "storage", waitsFor: [], ms: 3 },
      { stream: "network", waitsFor: [0], ms: 2 },
      { stream: "compute", waitsFor: [2], ms: 1 },
    ]);
    const slow = cost.map((ms, id) => (id === 0 ? 2 * ms : ms));
    const ran = clocked(program, sequentialOrder(program), { costs: [cost, slow] });
    expect(ran[0].slice(0, 2)).toEqual([
      { issued: 0, start: 0, end: 4 },
      { issued: 0, start: 4, end: 7 },
    ]);
    expect(ran[1][1]).toEqual({ issued: 0, start: 8, end: 11 });
    // The rank wakes when its own load has arrived and issues what waited for it.
    expect(ran[0][2]).toEqual({ issued: 4, start: 8, end: 10 });
    expect(ran[1][2]).toEqual({ issued: 8, start: 8, end: 10 });
  });
});

/** Program order on every stream, without the edges of `sequential`. */
function sequentialOrder(program: Program): Schedule {
  return { ...sequential(program), edges: [] };
}
