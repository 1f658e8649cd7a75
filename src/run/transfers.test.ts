/** Transfers of every stream and queue under way in a session: made-up operators that arrive when told. */
import { describe, expect, it } from "vitest";
import { actionsOf, madeUpProgram } from "../../test/operators.js";
import type { ExchangeResult } from "../comm/communicator.js";
import { singleCommunicator } from "../comm/single.js";
import { nowMs } from "../core/clock.js";
import { STREAMS } from "../program/operator.js";
import type { Program } from "../program/program.js";
import { sequential } from "../schedule/sequential.js";
import type { Costs } from "../simulate/costs.js";
import { simulate } from "../simulate/simulate.js";
import { chromeTrace } from "../timeline/chrome-trace.js";
import { makeTimeline } from "../timeline/summary.js";
import type { Services, Transfer } from "./context.js";
import { Session } from "./session.js";

interface Arrival {
  /** How often it must be asked before it has arrived; Infinity: it arrives when it is waited for. */
  readonly polls: number;
  readonly queue: object;
}

/** Runs a made-up program whose transfers arrive as told; hears what happens in which order. */
function runMadeUp(program: Program, arrivals: Readonly<Record<string, Arrival>>) {
  const log: string[] = [];
  const actions = actionsOf((op) => (context) => {
    for (const value of op.reads) context.read(value);
    const write = (): void => op.writes.forEach((value) => context.write(value, op.name, []));
    const arrival = arrivals[op.name];
    log.push(op.name);
    if (arrival === undefined) return void write();
    const startMs = nowMs();
    let [polls, endMs] = [0, 0];
    const result = (): ExchangeResult => {
      endMs ||= nowMs();
      return { bytes: [0], offsets: [0], notes: new Int32Array(0), startMs, endMs };
    };
    const transfer: Transfer = {
      bytes: 0,
      queue: arrival.queue,
      pending: {
        get done() {
          return polls++ >= arrival.polls;
        },
        wait() {
          if (polls <= arrival.polls && endMs === 0) log.push(`wait for ${op.name}`);
          return result();
        },
      },
      finish() {
        log.push(`${op.name} has arrived`);
        write();
      },
    };
    return transfer;
  });
  // Made-up operators need no engine, memory or weights.
  const services = { world: singleCommunicator() } as unknown as Services;
  const session = new Session(services, program, { actions });
  return { session, log };
}

const ANY: object = {};

describe("the storage stream", () => {
  const program = madeUpProgram(
    [
      { name: "first", reads: [0], writes: [1] },
      { name: "load", stream: "storage", reads: [1], writes: [2] },
      { name: "beside", reads: [1], writes: [3] },
      { name: "beside too", reads: [3], writes: [4] },
      { name: "reader", reads: [2, 4], writes: [5] },
    ],
    [100, 10, 1000, 20, 30, 40],
  );
  const schedule = { ...sequential(program), edges: [] };
  const feeds = new Map([[0, "fed"]]);

  it("is waited for when what it brings is needed, not before", () => {
    const { session, log } = runMadeUp(program, { load: { polls: Infinity, queue: ANY } });
    const { exposed } = session.run(schedule, feeds);
    const [start, end] = [
      ["first", "load", "beside", "beside too"],
      ["load has arrived", "reader"],
    ];
    expect(log).toEqual([...start, "wait for load", ...end]);
    expect(exposed.map(({ waitingFor }) => waitingFor)).toEqual(["reader"]);
  });

  it("is not waited for when it has arrived meanwhile", () => {
    const { session, log } = runMadeUp(program, { load: { polls: 0, queue: ANY } });
    const { exposed } = session.run(schedule, feeds);
    expect(log).toEqual(["first", "load", "beside", "load has arrived", "beside too", "reader"]);
    expect(exposed).toEqual([]);
  });

  it("holds up a schedule that forbids overlap", () => {
    const { session, log } = runMadeUp(program, { load: { polls: Infinity, queue: ANY } });
    session.run(sequential(program), feeds);
    expect(log.slice(0, 5)).toEqual(["first", "load", "wait for load", "load has arrived", "beside"]);
  });

  it("is measured, predicted and drawn as the network is", () => {
    const { session } = runMadeUp(program, { load: { polls: Infinity, queue: ANY } });
    const { events, exposed } = session.run(schedule, feeds);
    const of = (name: string) => events.find((event) => event.name === name);
    const load = of("load");
    expect(load).toMatchObject({ stream: "storage", operator: 1, class: "sum" });
    expect(load?.issuedMs).toBeGreaterThanOrEqual(of("first")?.endMs ?? NaN);
    expect(of("beside")?.startMs).toBeGreaterThanOrEqual(load?.issuedMs ?? NaN);
    expect(load?.endMs).toBeGreaterThanOrEqual(of("beside too")?.endMs ?? NaN);
    for (const { stream, issuedMs } of events) expect(issuedMs === undefined).toBe(stream === "compute");

    const costs: Costs = (op) => (op.stream === "storage" ? 3 : 1);
    const predicted = simulate(program, schedule, { costs: [costs] });
    const inOrder = (all: typeof events): string[] =>
      all.toSorted((a, b) => a.endMs - b.endMs).map((event) => event.name);
    expect(inOrder(predicted.events)).toEqual(events.map((event) => event.name));
    expect(predicted.events.find((event) => event.name === "load")).toMatchObject({
      stream: "storage",
      startMs: 1,
      endMs: 4,
    });
    expect(predicted.summary.stepMs).toBe(5);
    expect(predicted.exposed).toEqual([{ rank: 0, waitingFor: "reader", startMs: 3, endMs: 4 }]);

    const measured = makeTimeline("measured", 1, events, exposed);
    const { traceEvents } = chromeTrace([{ title: "a step", measured, predicted }]);
    for (const pid of [0, 1]) {
      const lane = traceEvents.find((e) => e.pid === pid && e.ph === "M" && e.args?.name === "storage")?.tid;
      expect(lane).toBe(STREAMS.indexOf("storage"));
      const drawn = traceEvents.filter((e) => e.pid === pid && e.ph === "X" && e.tid === lane);
      expect(drawn.map((e) => e.name)).toEqual(["load"]);
    }
  });

  it("has its values in the memory that a run needs", () => {
    const { session } = runMadeUp(program, { load: { polls: 0, queue: ANY } });
    // At the last operator: what was loaded, and the values before and after.
    expect(session.peakMemory(schedule, new Map())).toMatchObject({
      bytes: 1000 + 30 + 40,
      operator: "reader",
    });
  });
});

describe("transfers of several queues", () => {
  const program = madeUpProgram([
    { name: "old", stream: "network", reads: [0], writes: [1] },
    { name: "young", stream: "network", reads: [0], writes: [2] },
    { name: "load", stream: "storage", reads: [0], writes: [3] },
    { name: "reads young", reads: [2], writes: [4] },
    { name: "reads load", reads: [3, 4], writes: [5] },
    { name: "reads old", reads: [1, 5], writes: [6] },
  ]);
  const schedule = { ...sequential(program), edges: [] };
  const [late, soon] = [
    { polls: Infinity, queue: {} },
    { polls: 2, queue: {} },
  ];

  it("are used when they have arrived, though an older one of another queue is late", () => {
    const { session, log } = runMadeUp(program, { old: late, young: soon, load: { polls: 5, queue: {} } });
    const { exposed } = session.run(schedule, new Map([[0, "fed"]]));
    expect(log).toEqual([
      ...["old", "young", "load"],
      ...["young has arrived", "reads young"],
      ...["load has arrived", "reads load"],
      ...["wait for old", "old has arrived", "reads old"],
    ]);
    expect(exposed.map(({ waitingFor }) => waitingFor)).toEqual(["reads young", "reads load", "reads old"]);
  });

  it("arrive in the order of their queue", () => {
    const one = { ...soon, queue: late.queue };
    const { session, log } = runMadeUp(program, { old: late, young: one, load: one });
    session.run(schedule, new Map([[0, "fed"]]));
    expect(log.slice(3, 7)).toEqual([
      "wait for old",
      "old has arrived",
      ...["wait for young", "young has arrived"],
    ]);
  });
});
