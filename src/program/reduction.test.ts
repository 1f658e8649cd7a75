import { describe, expect, it } from "vitest";
import { smallModel } from "../../test/small-model.js";
import { listParameters } from "../model/parameters.js";
import { bucketsOf } from "../model/buckets.js";
import { buildTrainingProgram } from "../model/training-program.js";
import { sequential } from "../schedule/sequential.js";
import { gradientsWritten } from "./gradients.js";
import { ancestorsOf } from "./graph.js";
import type { Operator, OperatorOf } from "./operator.js";
import { type ReductionBucket, dealGathers, withReduction, withUpdates } from "./reduction.js";
import { repeatProgram } from "./repeat.js";
import { whyIllegal } from "./validate.js";
import { weightsRead } from "./weights-read.js";

const config = smallModel("scmoe-pos2");
const { program: micro } = buildTrainingProgram(config, { batch: 2, sequence: 16, epSize: 2 });
const { program } = repeatProgram(micro, 2);

const buckets = (more: Partial<ReductionBucket> = {}): ReductionBucket[] =>
  bucketsOf(listParameters(config), { epRank: 0, epSize: 2, bucketElements: 1000 }).map(
    ({ name, infos, size, kind }) => ({
      name,
      families: infos.map(({ family }) => family),
      bytes: size * 4,
      group: "world",
      ranks: kind === "replicated" ? 2 : 1,
      gathers: "gradients",
      wire: "f32",
      updated: 1024,
      maxPieces: 16,
      ...more,
    }),
  );

describe.each(["gradients", "weights"] as const)("a step that gathers %s", (gathers) => {
  const all = buckets({ gathers });
  const { program: step, update } = withUpdates(withReduction(program, all), all, { clears: true });
  const ancestors = ancestorsOf(step);
  const of = (kind: "update" | "all-gather" | "reduce-scatter", bucket: string): Operator[] =>
    step.operators.filter((op) => op.kind === kind && "bucket" in op.data && op.data.bucket === bucket);

  it("is legal, and keeps the ids of values", () => {
    expect(whyIllegal(step, sequential(step))).toBeUndefined();
    expect(step.values.slice(0, program.values.length)).toEqual(program.values);
    expect(step.values[update].name).toBe("update");
    expect(all.length).toBeGreaterThan(4);
  });

  it("updates every bucket once, before anything reads its weights or adds to its gradients", () => {
    for (const { name, families, ranks } of all) {
      const updates = of("update", name);
      expect(updates).toHaveLength(1);
      expect(updates[0].data).toEqual({ bucket: name, update, clears: true });
      const gathered = of("all-gather", name);
      expect(gathered).toHaveLength(ranks === 1 ? 0 : 1);
      const touched = step.operators.filter((op) =>
        [...weightsRead(op), ...gradientsWritten(op)].some((family) => families.includes(family)),
      );
      expect(touched.length).toBeGreaterThan(0);
      for (const { id, name: reader } of touched)
        for (const before of [...updates, ...gathered])
          expect(ancestors.has(id, before.id), reader).toBe(true);
      for (const { id } of gathered)
        expect(
          gathers === "weights" ? ancestors.has(id, updates[0].id) : ancestors.has(updates[0].id, id),
        ).toBe(true);
    }
  });

  it("waits for no more weights than an operator reads", () => {
    const embed = step.operators.find(({ kind }) => kind === "embed") as OperatorOf<"embed">;
    const updates = step.operators.filter(({ kind }) => kind === "update");
    const awaited = updates.filter(({ id }) => ancestors.has(embed.id, id));
    expect(awaited.length).toBeLessThan(updates.length / 2);
  });

  it("sends a bucket's gradients when they are complete, not before", () => {
    for (const { name, families, ranks } of all) {
      const scattered = of("reduce-scatter", name);
      expect(scattered).toHaveLength(ranks === 1 ? 0 : 1);
      for (const { id } of scattered)
        for (const op of step.operators)
          if (gradientsWritten(op).some((family) => families.includes(family)))
            expect(ancestors.has(id, op.id)).toBe(true);
    }
  });
});

describe("dealGathers()", () => {
  const dealt = dealGathers(program, buckets());
  const early = dealt.filter(({ gathersAtOnce }) => gathersAtOnce).map(({ name }) => name);
  const { program: step } = withUpdates(withReduction(program, dealt), dealt, { clears: true });
  const ancestors = ancestorsOf(step);

  it("gathers every shared bucket once: early ones behind the backward pass, late ones ahead of the next forward pass", () => {
    const shared = dealt.filter(({ ranks }) => ranks > 1).map(({ name }) => name);
    expect(shared.filter((name) => early.includes(name)).length).toBeGreaterThan(1);
    expect(shared.filter((name) => !early.includes(name)).length).toBeGreaterThan(1);
    for (const bucket of shared) {
      const of = (kind: string): Operator[] =>
        step.operators.filter((op) => op.kind === kind && "bucket" in op.data && op.data.bucket === bucket);
      const [gather, ...more] = of("all-gather");
      expect(more).toEqual([]);
      const [[update], [sum]] = [of("update"), of("reduce-sum")];
      expect(ancestors.has(gather.id, sum.id), bucket).toBe(early.includes(bucket));
      expect(ancestors.has(update.id, gather.id), bucket).toBe(!early.includes(bucket));
    }
    expect(whyIllegal(step, sequential(step))).toBeUndefined();
  });

  it("calls early what lies near the head, and leaves ZeRO-1's weights to the next step", () => {
    const ofFamily = (part: string): ReductionBucket[] =>
      dealt.filter(({ families, ranks }) => ranks > 1 && families.every((family) => family.includes(part)));
    const embedding = dealt.find(({ families }) => families.some((family) => family.includes("embed")));
    expect(ofFamily("layers.3").length).toBeGreaterThan(0);
    for (const { gathersAtOnce } of ofFamily("layers.3")) expect(gathersAtOnce).toBe(true);
    for (const { gathersAtOnce } of ofFamily("layers.0")) expect(gathersAtOnce).toBe(false);
    expect(embedding?.gathersAtOnce).toBe(false);
    const sharded = dealGathers(program, buckets({ gathers: "weights" }));
    expect(sharded.some(({ gathersAtOnce }) => gathersAtOnce)).toBe(false);
  });
});

describe("pieces", () => {
  const big = buckets().map((bucket) => ({ ...bucket, bytes: 5 * 2 ** 20 }));
  const sent = (of: readonly ReductionBucket[]): { count: number; bytes: number } => {
    const scatters = withReduction(program, of).operators.filter(({ kind }) => kind === "reduce-scatter");
    const bytes = Math.round(scatters.reduce((sum, { work }) => sum + work.bytes, 0));
    return { count: scatters.length, bytes };
  };
  const shared = big.filter(({ ranks }) => ranks > 1).length;

  it("cut what is sent of a bucket into half a megabyte each", () => {
    expect(sent(big)).toEqual({ count: 5 * shared, bytes: shared * 2.5 * 2 ** 20 });
  });

  it("are few however large the bucket", () => {
    expect(sent(big.map((bucket) => ({ ...bucket, bytes: 2 ** 30 }))).count).toBe(16 * shared);
  });

  it("carry half the bytes in bf16; weights stay f32", () => {
    const half = big.map((bucket) => ({ ...bucket, wire: "bf16" as const }));
    expect(sent(half)).toEqual({ count: 3 * shared, bytes: shared * 1.25 * 2 ** 20 });
    const zero = half.map((bucket) => ({ ...bucket, gathers: "weights" as const }));
    const gathered = withUpdates(program, zero, { clears: true }).program.operators.filter(
      (op): op is OperatorOf<"all-gather"> => op.kind === "all-gather",
    );
    expect(gathered).toHaveLength(5 * shared);
    expect(gathered.every(({ data }) => data.wire === "f32" && data.part === "weights")).toBe(true);
  });
});
