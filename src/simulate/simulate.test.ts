/** The simulator over many ranks, uneven loads and networks of two levels. */
import { ProgramBuilder } from "../program/builder.js";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { resolveModel } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";
import { buildTrainingProgram } from "../model/training-program.js";
import type { Operator } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { withUpdates } from "../program/reduction.js";
import { parsePolicy } from "../schedule/policy.js";
import { type Costs, classCosts } from "./costs.js";
import { type Network, type Traffic, loadTraffic } from "./network.js";
import { simulate } from "./simulate.js";
import { summarize } from "../timeline/summary.js";
import type { ExposedInterval, TimelineEvent } from "../timeline/timeline.js";

function programOf(arch: string, head?: "losses"): Program {
  const config = resolveModel({
    arch,
    vocab_size: 16,
    hidden_size: 8,
    intermediate_size: 16,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 8,
    max_position_embeddings: 8,
  });
  const options = { batch: 1, sequence: 8, epSize: 4 };
  return (
    head === undefined ? buildTrainingProgram(config, options) : buildProgram(config, { ...options, head })
  ).program;
}

const isTransfer = (op: Operator): boolean => op.stream === "network";
const kernelCosts = (of: { attention: number; mlp: number; expert: number }): Costs => {
  const forward = classCosts({ ...of, shared: of.mlp }, 0);
  return (op) => forward(op) * (op.pass === "backward" ? 2 : 1);
};
const network = (of: Partial<Network> & Pick<Network, "traffic">): Network => ({
  ranksPerNode: 2,
  intraBytesPerMs: 100,
  interBytesPerMs: 10,
  latencyMs: 0,
  ...of,
});
const positive = fc.double({ min: 0.1, max: 20, noNaN: true });

describe("simulate()", () => {
  const program = programOf("scmoe-pos2");
  const schedule = parsePolicy("fixed(2)").schedule(program);

  it("is no slower on a faster network", () => {
    fc.assert(
      fc.property(
        positive,
        positive,
        positive,
        positive,
        fc.double({ min: 1, max: 8, noNaN: true }),
        (a, m, e, bytes, factor) => {
          const kernels = kernelCosts({ attention: a, mlp: m, expert: e });
          const step = (rate: number): number => {
            const costs: Costs = (op) => (isTransfer(op) ? bytes / rate : kernels(op));
            return simulate(program, schedule, { costs: [costs] }).summary.stepMs;
          };
          expect(step(factor)).toBeLessThanOrEqual(step(1) + 1e-9);
        },
      ),
      { seed: 4, numRuns: 60 },
    );
  });

  it("sees one level in a network of two levels whose nodes have one rank, or are one", () => {
    const kernels = kernelCosts({ attention: 3, mlp: 4, expert: 5 });
    const ranks = 4;
    const load = [1, 1, 1, 1];
    const oneLevel = simulate(program, schedule, {
      costs: Array.from({ length: ranks }, () => (op: Operator) => (isTransfer(op) ? 300 / 10 : kernels(op))),
    });
    for (const [ranksPerNode, intraBytesPerMs] of [
      [1, 1],
      [4, 10],
    ]) {
      const traffic = loadTraffic(400, load, { first: 0, ranksPerNode });
      const two = simulate(program, schedule, {
        costs: Array.from({ length: ranks }, () => kernels),
        network: network({ ranksPerNode, intraBytesPerMs, traffic: () => traffic }),
      });
      expect(two.summary.stepMs).toBeCloseTo(oneLevel.summary.stepMs, 9);
      expect(two.summary.exposedMs).toBeCloseTo(oneLevel.summary.exposedMs, 9);
    }
  });

  it("keeps both ports of a rank busy at once, and the way out of a node shared", () => {
    const one: Program = programOf("top1", "losses");
    const sequential = parsePolicy("sequential").schedule(one);
    // Each rank: 200 bytes inside the node, 300 to the other one.
    const traffic = { intraBytes: new Float64Array(4).fill(200), interBytes: new Float64Array(4).fill(300) };
    const step = (of: Partial<Network>): number =>
      simulate(one, sequential, {
        costs: Array.from({ length: 4 }, () => () => 0),
        network: network({ traffic: () => traffic, ...of }),
      }).summary.stepMs;
    const transfers = one.operators.filter(isTransfer).length;
    expect(step({})).toBeCloseTo(transfers * 30, 9);
    expect(step({ intraBytesPerMs: 2 })).toBeCloseTo(transfers * 100, 9);
    expect(step({ uplinkBytesPerMs: 10 })).toBeCloseTo(transfers * 60, 9);
    expect(step({ latencyMs: 1 })).toBeCloseTo(transfers * 31, 9);
  });

  it("lets groups of ranks meet by themselves", () => {
    const kernels = kernelCosts({ attention: 1, mlp: 1, expert: 1 });
    const slow = kernelCosts({ attention: 9, mlp: 9, expert: 9 });
    const costs = [kernels, kernels, slow, slow];
    const traffic = { intraBytes: new Float64Array(2), interBytes: new Float64Array(2) };
    const apart = simulate(program, schedule, {
      costs,
      network: network({ traffic: () => traffic, groupSize: () => 2 }),
    });
    const last = (rank: number): number =>
      Math.max(...apart.events.filter((e) => e.rank === rank).map((e) => e.endMs));
    expect(last(0)).toBeLessThan(last(2) / 5);
    const together = simulate(program, schedule, { costs, network: network({ traffic: () => undefined }) });
    expect(together.events.filter((e) => e.rank === 0).at(-1)?.endMs).toBeGreaterThan(last(0) * 2);
  });

  it("shows an uneven load as waiting of the other ranks", () => {
    const even = kernelCosts({ attention: 3, mlp: 4, expert: 5 });
    const heavy = kernelCosts({ attention: 3, mlp: 4, expert: 15 });
    const at = (costs: readonly Costs[]) => simulate(program, schedule, { costs, eventsOf: [0] });
    const [balanced, uneven] = [at([even, even, even]), at([even, even, heavy])];
    expect(uneven.summary.stepMs).toBeGreaterThan(balanced.summary.stepMs);
    expect(balanced.summary.lateMs).toBe(0);
    expect(uneven.summary.lateMs).toBeGreaterThan(1);
    expect(new Set(uneven.events.map((e) => e.rank))).toEqual(new Set([0]));
  });
});

it("an operator that writes no value sends the bytes of its work", () => {
  const bucket = {
    name: "replicated.0",
    families: ["model.norm.weight"],
    bytes: 400,
    group: "world",
    ranks: 4,
    gathers: "gradients",
    wire: "f32",
    updated: 1024,
    maxPieces: 16,
  } as const;
  const { program } = withUpdates(programOf("top1"), [bucket], { clears: true });
  const gather = program.operators.find((op) => op.kind === "all-gather") as Operator;
  expect(gather.writes).toEqual([]);
  const { events } = simulate(program, parsePolicy("sequential").schedule(program), { costs: [() => 1] });
  expect(events.find((e) => e.operator === gather.id)?.bytes).toBe(300);
});

describe("summarize()", () => {
  const event = { rank: 3, operator: 0, name: "", pass: "forward" } as const;
  const transfer = (issuedMs: number, startMs: number, endMs: number) =>
    ({
      ...event,
      stream: "network",
      class: "dispatch",
      cost: "",
      bytes: 8,
      issuedMs,
      startMs,
      endMs,
    }) as const;
  const wait = (startMs: number, endMs: number) => ({ rank: 3, waitingFor: "", startMs, endMs });
  const figures = (transfers: TimelineEvent[], waits: ExposedInterval[]) => {
    const { communicationMs, exposedMs, lateMs } = summarize(transfers, waits, 1, 100);
    return { communicationMs, exposedMs, lateMs };
  };

  it("counts waiting for a transfer that all came to together as exposed", () => {
    expect(figures([transfer(10, 10, 16)], [wait(12, 16)])).toEqual({
      communicationMs: 6,
      exposedMs: 4,
      lateMs: 0,
    });
  });

  it("counts as late by how much a wait would have been shorter, had the last rank come with this one", () => {
    // The last rank comes 4 ms later: that long the transfer ends later, whether or not this rank waited by then.
    expect(figures([transfer(20, 24, 30)], [wait(20, 30)])).toMatchObject({ exposedMs: 6, lateMs: 4 });
    expect(figures([transfer(20, 24, 30)], [wait(25, 30)])).toMatchObject({ exposedMs: 1, lateMs: 4 });
    expect(figures([transfer(20, 24, 30)], [wait(28, 30)])).toMatchObject({ exposedMs: 0, lateMs: 2 });
  });

  it("blames a wait on what ended it, not on what began before or on another stream", () => {
    // Everybody waited for the first one's last rank; it arrives after the second, which took another way.
    const [late, other] = [transfer(0, 5, 30), transfer(6, 6, 12)];
    expect(figures([late, other], [wait(20, 30)])).toMatchObject({ exposedMs: 5, lateMs: 5 });
    const load = { ...transfer(30, 30, 40), stream: "storage", bytes: undefined } as const;
    expect(figures([late, load], [wait(20, 30), wait(31, 40)])).toEqual({
      communicationMs: 25,
      exposedMs: 14,
      lateMs: 5,
    });
  });

  it("counts what queues behind another transfer as communication, not as lateness", () => {
    expect(figures([transfer(0, 0, 10), transfer(2, 8, 20)], [wait(5, 10), wait(10, 20)])).toEqual({
      communicationMs: 20,
      exposedMs: 15,
      lateMs: 0,
    });
  });
});

describe("traffic", () => {
  it("of loads is that of their pairs", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 2, maxLength: 12 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 3 }),
        (load, ranksPerNode, nodesBefore) => {
          fc.pre(load.some((x) => x > 0));
          const total = load.reduce((a, b) => a + b, 0);
          const group = { first: nodesBefore * load.length, size: load.length, ranksPerNode };
          const pairs = trafficBetween((_, to) => (600 * load[to]) / total, group);
          const compact = loadTraffic(600, load, group);
          for (const level of ["intraBytes", "interBytes"] as const)
            compact[level].forEach((bytes, rank) => expect(bytes).toBeCloseTo(pairs[level][rank], 6));
        },
      ),
      { seed: 5, numRuns: 100 },
    );
  });
});

it("predicts the bytes that an operator sends, whether or not it has outputs", () => {
  const builder = new ProgramBuilder();
  builder.value("first", 1000);
  const work = { class: "all-gather", flops: 0, bytes: 48 } as const;
  const piece = { piece: 0, pieces: 1, wire: "f32" } as const;
  const data = { bucket: "replicated.0", group: "world", part: "gradients", ...piece } as const;
  builder.add({ name: "gather", kind: "all-gather", reads: [], writes: [], work, data });
  const program = builder.build("gather");
  const [event] = simulate(program, parsePolicy("sequential").schedule(program), { costs: [() => 1] }).events;
  expect(event.bytes).toBe(48);
});

/**
 * Traffic of a group from what each of its ranks sends to each other.
 * @param bytes from one rank of the group to another, both counted from the group's first
 */
function trafficBetween(
  bytes: (from: number, to: number) => number,
  group: { readonly first: number; readonly size: number; readonly ranksPerNode: number },
): Traffic {
  const { first, size, ranksPerNode } = group;
  const [intraBytes, interBytes] = [new Float64Array(size), new Float64Array(size)];
  for (let rank = 0; rank < size; rank++) {
    const node = Math.floor((first + rank) / ranksPerNode);
    const [sent, received] = [
      [0, 0],
      [0, 0],
    ];
    for (let peer = 0; peer < size; peer++) {
      if (peer === rank) continue;
      const level = Math.floor((first + peer) / ranksPerNode) === node ? 0 : 1;
      sent[level] += bytes(rank, peer);
      received[level] += bytes(peer, rank);
    }
    intraBytes[rank] = Math.max(sent[0], received[0]);
    interBytes[rank] = Math.max(sent[1], received[1]);
  }
  return { intraBytes, interBytes };
}
