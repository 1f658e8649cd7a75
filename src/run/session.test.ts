/** A session: state that lasts, weights that are fixed, orders that change. */
import { afterAll, describe, expect, it } from "vitest";
import { ENGINES, countingEngine, expectClose, filled } from "../../test/engines.js";
import { singleCommunicator } from "../comm/single.js";
import type { Tensor } from "../core/tensor.js";
import type { Engine } from "../engine/engine.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { createReferenceEngine } from "../../test/reference/engine.js";
import * as k from "../kernel/build.js";
import { kernelWork } from "../kernel/work.js";
import { resolveModel } from "../model/config.js";
import { buildProgram } from "../model/language-model.js";
import { ProgramBuilder } from "../program/builder.js";
import { eager } from "../schedule/list-schedule.js";
import { parsePolicy } from "../schedule/policy.js";
import { sequential } from "../schedule/sequential.js";
import { type Costs, unitCosts } from "../simulate/costs.js";
import type { Services } from "./context.js";
import { Memory } from "./memory.js";
import { type Rank, createRank } from "./rank.js";
import { Session, type SessionOptions } from "./session.js";
import { Weights } from "./weights.js";

const world = singleCommunicator();

function bareServices(engine: Engine): Services {
  const weights = new Weights(engine, [], { epRank: 0, epSize: 1 });
  return { engine, memory: new Memory(engine), weights, world, ep: world, replicas: world };
}

describe.each(ENGINES)("state, %s", (_, create) => {
  const engine = create();
  afterAll(() => engine.dispose());
  const arena = engine.newArena(2 ** 16, "tensors");

  const builder = new ProgramBuilder();
  const x = builder.value("x", 16);
  const total = builder.state("total", 16);
  const updated = builder.value("updated total", 16);
  const doubled = builder.value("doubled", 16);
  const input = (name: string) => k.input(name, ["T"]);
  const add = k.kernel("add", { sum: k.add(input("total"), input("x")) }, { sum: "total" });
  const double = k.kernel("double", { y: k.mul(input("sum"), k.scalar(2)) });
  const symbols = new Map([["T", 4]]);
  builder.add({
    name: "add",
    kind: "kernel",
    reads: [total, x],
    writes: [updated],
    work: { class: "sum", ...kernelWork(add, symbols) },
    data: { kernel: add, inputs: { total, x }, outputs: { sum: updated }, parameters: {} },
  });
  builder.add({
    name: "double",
    kind: "kernel",
    reads: [updated],
    writes: [doubled],
    work: { class: "sum", ...kernelWork(double, symbols) },
    data: { kernel: double, inputs: { sum: updated }, outputs: { y: doubled }, parameters: {} },
  });
  const program = builder.build("running total");
  const services = bareServices(engine);

  it("is updated in place and keeps its value between runs", () => {
    const [held, given] = ["total", "x"].map((name) => filled(arena, name, [4]));
    held.data.set([1, 2, 3, 4]);
    const session = new Session(services, program, { state: new Map([[total, held]]), keep: [doubled] });
    const schedule = sequential(program);
    const add = (...values: number[]): { sum: number[]; live: number } => {
      given.data.set(values);
      const run = session.run(schedule, new Map([[x, given]]));
      const sum = Array.from(run.read<Tensor>(doubled).data, (v) => v / 2);
      run.release();
      return { sum, live: services.memory.liveBytes };
    };
    expect(add(10, 20, 30, 40)).toEqual({ sum: [11, 22, 33, 44], live: 0 });
    expect(add(1, 1, 1, 1)).toEqual({ sum: [12, 23, 34, 45], live: 0 });
    expect([...held.data]).toEqual([12, 23, 34, 45]);
    // Whoever owns the state may set it between runs: a new conversation.
    held.data.fill(0);
    expect(add(5, 6, 7, 8).sum).toEqual([5, 6, 7, 8]);
  });

  it("must be bound when the session is opened", () => {
    expect(() => new Session(services, program)).toThrow(/the state total is bound/);
    expect(() => new Session(services, program, { state: new Map([[x, 0]]) })).toThrow(/the state total/);
  });

  it("counts in the memory that a run needs, to its end", () => {
    const session = new Session(services, program, { state: new Map([[total, filled(arena, "t", [4])]]) });
    // total and x, then total and doubled: the update has no memory of its own.
    expect(session.peakMemory(sequential(program), symbols)).toMatchObject({ bytes: 32, operator: "add" });
  });
});

const [BATCH, SEQUENCE, VOCABULARY] = [2, 8, 24];

function smallModel(style: "gpt" | "llama", engine: Engine, arch = "scmoe-pos2") {
  const config = resolveModel({
    arch,
    style,
    vocab_size: VOCABULARY,
    hidden_size: 16,
    intermediate_size: 24,
    num_attention_heads: 2,
    num_hidden_layers: 4,
    num_experts: 4,
    max_position_embeddings: SEQUENCE,
    tie_word_embeddings: false,
  });
  const rank = createRank({ config, engine, world });
  rank.weights.initialize(5, 0.3);
  const model = buildProgram(config, { batch: BATCH, sequence: SEQUENCE, epSize: 1, head: "logits" });
  const feeds = new Map([
    [
      model.tokens,
      {
        data: Int32Array.from({ length: BATCH * SEQUENCE }, (_, i) => (7 * i) % VOCABULARY),
        dims: [BATCH * SEQUENCE],
      },
    ],
  ]);
  const open = (options: SessionOptions = {}): Session =>
    new Session(rank, model.program, { keep: [model.output], ...options });
  const logits = (session: Session, schedule = sequential(model.program)): number[] => {
    const run = session.run(schedule, feeds);
    const found = [...run.read<Tensor>(model.output).data];
    run.release();
    return found;
  };
  return { rank, model, open, logits };
}

/** All that kernels read; the embedding's rows are gathered from its table. */
function overwriteWeights({ weights }: Rank): void {
  for (const { tensors } of weights.buckets)
    for (const { info } of tensors)
      if (!info.name.startsWith("model.embed_")) weights.weight(info.name).fill(NaN);
}

describe.each(["gpt", "llama"] as const)("fixed weights, %s", (style) => {
  it.each(ENGINES)("give what weights as inputs give, whatever becomes of their memory: %s", (_, create) => {
    const engine = create();
    const { rank, open, logits } = smallModel(style, engine);
    const wanted = logits(open({ weights: "inputs" }));
    const [inputs, fixed] = [open(), open({ weights: "fixed" })];
    expect(Math.max(...wanted.map(Math.abs))).toBeGreaterThan(0.1);
    const before = logits(fixed);
    expectClose(before, wanted, 1e-6, "logits");
    overwriteWeights(rank);
    expect(logits(fixed)).toEqual(before);
    expect(logits(inputs).every(Number.isNaN)).toBe(true);
    engine.dispose();
  });
});

describe("another order", () => {
  it("of the same session compiles nothing and computes the same bits", () => {
    const { engine, compiled } = countingEngine(createOrtEngine());
    const { model, open, logits } = smallModel("gpt", engine);
    const session = open();
    expect(compiled()).toBeGreaterThan(5);
    const wanted = logits(session);
    const orders = [sequential(model.program).order.compute.join()];
    const backwards: Costs = (op) => model.program.operators.length - op.id;
    for (const schedule of [
      parsePolicy("fixed(1)").schedule(model.program),
      parsePolicy("fixed(3)").schedule(model.program),
      eager(model.program, unitCosts),
      eager(model.program, backwards),
    ]) {
      expect(logits(session, schedule)).toEqual(wanted);
      orders.push(schedule.order.compute.join());
    }
    expect(new Set(orders).size).toBeGreaterThan(2);
    expect(compiled()).toBe(0);
    engine.dispose();
  });

  it("is refused with the reason when it is not legal", () => {
    const engine = createReferenceEngine();
    const { model, open, logits } = smallModel("gpt", engine);
    const session = open();
    const schedule = sequential(model.program);
    const order = { ...schedule.order, compute: schedule.order.compute.toReversed() };
    expect(() => logits(session, { ...schedule, order, policy: "reversed" })).toThrow(
      /^The schedule reversed is not legal: the order would wait for itself: /,
    );
    engine.dispose();
  });
});
