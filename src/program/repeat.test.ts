import { describe, expect, it } from "vitest";
import { smallModel } from "../../test/small-model.js";
import { buildProgram } from "../model/language-model.js";
import { type TrainingOptions, buildTrainingProgram } from "../model/training-program.js";
import { parsePolicy } from "../schedule/policy.js";
import { expertWindows } from "../schedule/placement.js";
import { sequential } from "../schedule/sequential.js";
import { gradientsWritten } from "./gradients.js";
import { ancestorsOf } from "./graph.js";
import type { Operator, OperatorOf } from "./operator.js";
import { type ReductionBucket, withReduction, withUpdates } from "./reduction.js";
import { renumber } from "./renumber.js";
import { repeatProgram } from "./repeat.js";
import { whyIllegal } from "./validate.js";

const config = (arch: string) => smallModel(arch, { gate_noise: true, balance_statistics: "global" });
const SIZES = { batch: 2, sequence: 16, epSize: 2 };
const training = (arch: string, more: Partial<TrainingOptions> = {}) =>
  buildTrainingProgram(config(arch), { ...SIZES, ...more });
const ARCHS = ["top2", "shared", "scmoe-pos2", "dgmoe", "dense"];
const VARIANTS = ARCHS.flatMap((arch) => [
  { arch, chunks: 1, splitWeightGradients: false },
  { arch, chunks: 2, splitWeightGradients: true, documents: true },
]);

/** One bucket of all parameters that have gradients. */
const bucketOf = ({ operators }: { operators: readonly Operator[] }): ReductionBucket => ({
  name: "b0",
  families: [...new Set(operators.flatMap(gradientsWritten))],
  bytes: 4096,
  group: "world",
  ranks: 2,
  gathers: "gradients",
  wire: "f32",
  updated: 1024,
  maxPieces: 16,
});

describe("renumber()", () => {
  it.each(VARIANTS)(
    "reaches every value of every operator: $arch, $chunks chunks",
    ({ arch, ...options }) => {
      const { program } = training(arch, options);
      const programs = [buildProgram(config(arch), { ...SIZES, head: "losses" }).program, program];
      const bucket = bucketOf(program);
      const step = withUpdates(withReduction(program, [bucket]), [bucket], { clears: true });
      for (const op of [...programs, step.program].flatMap((p) => p.operators)) {
        const reached = new Set<number>();
        const moved = renumber(op, (value) => {
          reached.add(value);
          return value + 1000;
        });
        // A gate's derivative finds the weights it reads in the routing.
        const missed = [...op.reads, ...op.writes].filter((value) => !reached.has(value));
        expect(missed, op.name).toHaveLength(op.kind === "route'" ? 1 : 0);
        expect(renumber({ ...op, data: moved } as Operator, (value) => value - 1000)).toEqual(op.data);
        expect(Math.min(1000, ...numbersMoved(op.data, moved))).toBe(1000);
      }
    },
  );

  /** Differences between numbers at the same place. */
  function numbersMoved(before: unknown, after: unknown): number[] {
    if (typeof before === "number") return before === after ? [] : [(after as number) - before];
    if (typeof before !== "object" || before === null) return [];
    return Object.entries(before).flatMap(([key, value]) =>
      numbersMoved(value, (after as Record<string, unknown>)[key]),
    );
  }
});

describe("repeatProgram()", () => {
  it.each(VARIANTS)(
    "makes copies that share nothing but gradients: $arch, $chunks chunks",
    ({ arch, ...options }) => {
      const model = training(arch, options);
      const original = model.program;
      const { program, values } = repeatProgram(original, 3, { shared: new Set([model.scales]) });
      const n = original.operators.length;
      expect(program.values.slice(0, original.values.length)).toEqual(original.values);
      expect(program.operators).toHaveLength(3 * n);
      expect(new Set(program.operators.map(({ name }) => name)).size).toBe(3 * n);
      program.values.forEach(({ id }, i) => expect(id).toBe(i));
      for (const copy of [0, 1, 2]) {
        const to = values[copy];
        original.operators.forEach((op, i) => {
          const copied = program.operators[3 * i + copy];
          const name = copy === 0 ? op.name : `m${copy}.${op.name}`;
          expect(copied).toMatchObject({ id: 3 * i + copy, name, kind: op.kind, cost: op.cost });
          expect(copied.reads).toEqual(op.reads.map((value) => to[value]));
          expect(copied.writes).toEqual(op.writes.map((value) => to[value]));
          expect(copied.after).toEqual(expect.arrayContaining(op.after.map((id) => 3 * id + copy)));
          if (copy > 0)
            for (const value of copied.writes)
              expect(program.values[value].name).toMatch(new RegExp(`^m${copy}\\.`));
        });
        expect(to[model.scales]).toBe(model.scales);
        expect(to[model.tokens] === model.tokens).toBe(copy === 0);
      }
      const all = values.flatMap((ids) => ids.filter((id) => id !== model.scales));
      expect(new Set(all).size).toBe(all.length);
    },
  );

  it.each(VARIANTS)("adds to every gradient in one order: $arch, $chunks chunks", ({ arch, ...options }) => {
    const { program: original } = training(arch, options);
    const { program } = repeatProgram(original, 3);
    const ancestors = ancestorsOf(program);
    const { families } = bucketOf(program);
    expect(families.length).toBeGreaterThan(3);
    for (const family of families) {
      const writers = program.operators.filter((op) => gradientsWritten(op).includes(family));
      expect(writers.length).toBe(
        3 * original.operators.filter((op) => gradientsWritten(op).includes(family)).length,
      );
      for (let i = 1; i < writers.length; i++)
        expect(ancestors.has(writers[i].id, writers[i - 1].id), `${family}: ${writers[i].name}`).toBe(true);
    }
  });

  it("leaves the forward halves of the copies free of each other", () => {
    const { program: original } = training("scmoe-pos2");
    const { program } = repeatProgram(original, 2);
    const ancestors = ancestorsOf(program);
    for (const { id, pass, microBatch } of program.operators)
      if (pass === "forward")
        for (const other of program.operators)
          if (other.microBatch !== microBatch) expect(ancestors.has(id, other.id)).toBe(false);
  });

  it("counts the routings of all copies once, where their statistics are shared, before any gate goes backward", () => {
    const model = training("scmoe-pos2");
    const statistics = model.statistics as number;
    const shared = new Set([model.scales, statistics]);
    const { program, values } = repeatProgram(model.program, 3, { shared });
    const counting = program.operators.filter(({ kind }) => kind === "statistics");
    expect(counting).toHaveLength(1);
    const [{ id, data, reads }] = counting as [OperatorOf<"statistics">];
    expect(data.routings).toEqual(
      model.routings.map((route) => values.map((ofCopy) => ofCopy[route.data.routing])),
    );
    expect(reads).toEqual(data.routings.flat());
    const ancestors = ancestorsOf(program);
    const backward = program.operators.filter(({ kind }) => kind === "route'");
    expect(backward).toHaveLength(3 * model.routings.length);
    for (const op of backward) expect(ancestors.has(op.id, id)).toBe(true);
    expect(whyIllegal(program, sequential(program))).toBeUndefined();
  });

  it("is followed by one reduction of each bucket, after the last copy", () => {
    const { program } = repeatProgram(training("scmoe-pos2").program, 3);
    const reduced = withReduction(program, [bucketOf(program)]);
    const added = reduced.operators.slice(program.operators.length);
    expect(added.map(({ kind }) => kind)).toEqual(["reduce-scatter", "reduce-sum"]);
    const writers = program.operators.flatMap((op) => (gradientsWritten(op).length > 0 ? [op.id] : []));
    expect(writers.some((id) => program.operators[id].microBatch === 2)).toBe(true);
    expect(added[0].after).toEqual(writers);
    expect(() => repeatProgram(reduced, 2)).toThrow(/reduces gradients: that comes once/);
  });

  it("repeats forward programs, states too, and refuses to share what is written", () => {
    const model = buildProgram(config("top2"), { ...SIZES, head: "logits" });
    const { program, values } = repeatProgram(model.program, 2);
    expect(whyIllegal(program, sequential(program))).toBeUndefined();
    expect(program.operators[1].reads).toEqual([values[1][model.tokens]]);
    expect(() => repeatProgram(model.program, 2, { shared: new Set([model.output]) })).toThrow(
      /head writes a value that all copies should share/,
    );
    expect(() => repeatProgram(model.program, 0)).toThrow(/whole number of times, not 0/);
    const state = { ...model.program, values: model.program.values.map((v) => ({ ...v, isState: true })) };
    expect(repeatProgram(state, 2).program.values.every(({ isState }) => isState)).toBe(true);
  });

  it("is placed legally by every policy; experts are placed among their own micro-batch", () => {
    for (const policy of ["sequential", "adaptive", "adaptive(2)", "pipelined(2)", "fixed(1)", "fixed(3)"]) {
      const { chunks, schedule } = parsePolicy(policy);
      const { program } = repeatProgram(training("scmoe-pos2", { chunks }).program, 3);
      expect(whyIllegal(program, schedule(program)), policy).toBeUndefined();
      const windows = [...expertWindows(program)];
      expect(windows.some(([, window]) => window.length > 1)).toBe(true);
      for (const [expert, window] of windows)
        for (const id of window)
          expect(program.operators[id].microBatch).toBe(program.operators[expert].microBatch);
    }
  });

  it("has illegal orders: a later copy may not add to a gradient first", () => {
    const { program: original } = training("top2");
    const { program } = repeatProgram(original, 2);
    const { order, ...rest } = sequential(program);
    const isSecond = (id: number): boolean => program.operators[id].microBatch === 1;
    const compute = [...order.compute.filter(isSecond), ...order.compute.filter((id) => !isSecond(id))];
    expect(whyIllegal(program, { ...rest, edges: [], order: { ...order, compute } })).toMatch(
      /would wait for itself/,
    );
  });
});
