/** What every engine must do, run against each; whatever it answers is checked against formulas written out here. */
import { afterAll, describe, expect, it } from "vitest";
import { philox } from "../core/rng.js";
import { type Tensor, numElements } from "../core/tensor.js";
import * as k from "../kernel/build.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Arena } from "./arena.js";
import type { Engine } from "./engine.js";
import { createOrtEngine } from "./ort-engine.js";
import { createReferenceEngine } from "./reference-engine.js";

const ENGINES: [string, () => Engine][] = [
  ["onnxruntime", createOrtEngine],
  ["reference", createReferenceEngine],
];
const MIB = 2 ** 20;

function filled(arena: Arena, name: string, dims: readonly number[]): Tensor<Float32Array> {
  const data = arena.f32(numElements(dims));
  philox(17, name).fillNormal(data, 0, 1);
  return { data, dims };
}

/** Relative to the largest wanted value. */
function expectClose(found: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 2e-6): void {
  const scale = Math.max(1e-6, ...Array.from(wanted, Math.abs));
  expect(found.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++)
    expect(Math.abs(found[i] - wanted[i]) / scale, `[${i}]: ${found[i]} ≈ ${wanted[i]}`).toBeLessThan(
      tolerance,
    );
}

/** y = x wᵀ + b with dynamic rows; W, I, O: rows, inputs, outputs. */
const affine = (name = "affine", [x, w, b] = ["x", "w", "b"]): Kernel =>
  k.kernel(name, { y: k.linear(k.input(x, ["T", 5]), k.parameter(w, [7, 5]), k.parameter(b, [7])) });

function affineByHand(x: Float32Array, w: Float32Array, b: Float32Array): Float64Array {
  const rows = x.length / 5;
  return Float64Array.from({ length: rows * 7 }, (_, at) => {
    const [row, out] = [Math.floor(at / 7), at % 7];
    let sum = b[out];
    for (let i = 0; i < 5; i++) sum += x[row * 5 + i] * w[out * 5 + i];
    return sum;
  });
}

describe.each(ENGINES)("%s", (_, create) => {
  const engine = create();
  const arena = engine.newArena(8 * MIB, "one");
  const other = engine.newArena(8 * MIB, "other");
  afterAll(() => engine.dispose());

  describe("kernels", () => {
    it("take any number of rows, none too, one compilation for all", () => {
      const executable = engine.compile(affine());
      const [w, b] = [filled(arena, "w", [7, 5]), filled(arena, "b", [7])];
      for (const rows of [3, 0, 64, 1, 3]) {
        const x = filled(arena, `x${rows}`, [rows, 5]);
        const y = filled(arena, "y", [rows, 7]);
        executable.run({ x, w, b, y });
        expectClose(y.data, affineByHand(x.data, w.data, b.data));
      }
    });

    it("compute the same bits wherever their tensors lie, and write nowhere else", () => {
      const executable = engine.compile(affine());
      const results = [arena, other].map((home) => {
        const w = filled(other, "w", [7, 5]);
        const b = filled(arena, "b", [7]);
        const x = filled(home, "x", [6, 5]);
        const around = home.f32(44 + 32);
        around.fill(77);
        const y = { data: around.subarray(16, 16 + 42), dims: [6, 7] };
        const before = x.data.slice();
        executable.run({ x, w, b, y });
        expect(x.data).toEqual(before);
        expect([...around.subarray(0, 16), ...around.subarray(16 + 42)].every((v) => v === 77)).toBe(true);
        return Buffer.from(y.data.slice().buffer);
      });
      expect(results[0].equals(results[1])).toBe(true);
    });

    it("of one structure and other names run each with their own tensors", () => {
      const [first, second] = [
        engine.compile(affine()),
        engine.compile(affine("other", ["rows", "weight", "bias"])),
      ];
      const [a, c] = [filled(arena, "a", [2, 5]), filled(arena, "c", [2, 5])];
      const [w, b] = [filled(arena, "w", [7, 5]), filled(arena, "b", [7])];
      const [y, z] = [filled(arena, "y", [2, 7]), filled(arena, "z", [2, 7])];
      first.run({ x: a, w, b, y });
      second.run({ rows: c, weight: w, bias: b, y: z });
      expectClose(y.data, affineByHand(a.data, w.data, b.data));
      expectClose(z.data, affineByHand(c.data, w.data, b.data));
    });

    it("add to an output that is an input, too; no rows add nothing", () => {
      const sum = k.kernel(
        "accumulate",
        {
          g: k.gemmAccumulate(k.parameter("g", [5, 4]), k.input("a", ["T", 5]), k.input("b", ["T", 4]), {
            transA: true,
          }),
        },
        { g: "g" },
      );
      const g = filled(arena, "g", [5, 4]);
      const wanted = Float64Array.from(g.data);
      for (const rows of [6, 0, 6]) {
        const [a, b] = [filled(arena, "a", [rows, 5]), filled(arena, "b", [rows, 4])];
        for (let r = 0; r < rows; r++)
          wanted.forEach(
            (_v, at) => (wanted[at] += a.data[r * 5 + Math.floor(at / 4)] * b.data[r * 4 + (at % 4)]),
          );
        engine.compile(sum).run({ a, b, g });
      }
      expectClose(g.data, wanted);
    });

    it("read integers, and give several results", () => {
      const logits = k.input("logits", ["T", 4]);
      const labels = k.input("labels", ["T"], "i32");
      const both = k.kernel("both", { loss: k.crossEntropy(logits, labels), p: k.softmax(logits) });
      const x = filled(arena, "logits", [5, 4]);
      const ids: Tensor = { data: arena.i32(5), dims: [5] };
      ids.data.set([3, 0, 1, 2, 3]);
      const [loss, p] = [filled(arena, "loss", [5]), filled(arena, "p", [5, 4])];
      engine.compile(both).run({ logits: x, labels: ids, loss, p });
      for (let t = 0; t < 5; t++) {
        const row = Float64Array.from(x.data.subarray(t * 4, t * 4 + 4), Math.exp);
        const sum = row.reduce((a, b) => a + b);
        expectClose(
          p.data.subarray(t * 4, t * 4 + 4),
          row.map((e) => e / sum),
        );
        expectClose([loss.data[t]], [Math.log(sum / row[ids.data[t]])]);
      }
    });

    it.each([
      [
        "without a tensor",
        (t: Record<string, Tensor>) => ({ ...t, w: undefined }),
        "affine: nothing is bound to w",
      ],
      [
        "of another width",
        (t: Record<string, Tensor>) => ({ ...t, b: t.w }),
        "affine: b is [7, 5], wanted [7]",
      ],
      [
        "with too few numbers",
        (t: Record<string, Tensor>) => ({ ...t, x: { ...t.x, dims: [3, 5] } }),
        "affine: x holds 10 elements, its dims say [3, 5]",
      ],
      [
        "that disagree on the rows",
        (t: Record<string, Tensor>) => ({ ...t, y: { data: t.y.data.subarray(7), dims: [1, 7] } }),
        "affine: y is [1, 7], wanted [T = 2, 7]",
      ],
      [
        "of another type",
        (t: Record<string, Tensor>) => ({ ...t, x: { ...t.x, data: new Int32Array(10) } }),
        "affine: x is i32, wanted f32",
      ],
    ])("refuse to run %s", (_what, change, message) => {
      const tensors: Record<string, Tensor> = {
        x: filled(arena, "x", [2, 5]),
        w: filled(arena, "w", [7, 5]),
        b: filled(arena, "b", [7]),
        y: filled(arena, "y", [2, 7]),
      };
      expect(() => engine.compile(affine()).run(change(tensors) as Record<string, Tensor>)).toThrow(message);
    });
  });

  describe("arenas", () => {
    it("give aligned blocks that do not overlap, and take them back", () => {
      const room = engine.newArena(MIB, "room");
      const blocks = [room.f32(3), room.i32(100), room.u8(65), room.f32(1)];
      expect(blocks.every((block) => block.byteOffset % 64 === 0 && block.buffer === room.buffer)).toBe(true);
      blocks.forEach((block, i) => block.fill(i + 1));
      expect(blocks.every((block, i) => block.every((v) => v === i + 1))).toBe(true);
      const peak = room.peakBytes;
      for (const at of [1, 3, 0, 2]) room.free(blocks[at]);
      expect([room.liveBytes, room.peakBytes]).toEqual([0, peak]);
      const whole = room.u8(room.capacityBytes);
      expect(() => room.f32(1)).toThrow('Arena "room" has no 64 bytes');
      room.free(whole);
      expect(() => room.free(whole)).toThrow("not an allocation of this arena");
    });
  });

  describe.each([
    ["in one arena", () => arena],
    ["in several arenas", (turn: number) => (turn % 2 === 0 ? arena : other)],
  ] as const)("routines, operands %s", (_where, homeOf) => {
    let turn = 0;
    /** Sizes are no multiples of a vector. */
    const make = (name: string, dims: readonly number[]): Float32Array =>
      filled(homeOf(turn++), name, dims).data;
    const indices = (values: readonly number[]): Int32Array => {
      const data = homeOf(turn++).i32(values.length);
      data.set(values);
      return data;
    };
    const { routines } = engine;

    it("adamw", () => {
      const [p, g, m, v] = ["p", "g", "m", "v"].map((name) => make(name, [203]));
      v.forEach((x, i) => (v[i] = x * x));
      const o = {
        learningRate: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weightDecay: 0.1,
        step: 3,
        gradScale: 0.5,
      };
      const wanted = Array.from(p, (weight, i) => {
        const grad = g[i] * o.gradScale;
        const first = (o.beta1 * m[i] + (1 - o.beta1) * grad) / (1 - o.beta1 ** 3);
        const second = (o.beta2 * v[i] + (1 - o.beta2) * grad * grad) / (1 - o.beta2 ** 3);
        return (
          weight * (1 - o.learningRate * o.weightDecay) -
          (o.learningRate * first) / (Math.sqrt(second) + o.eps)
        );
      });
      const moments = Array.from(m, (x, i) => o.beta1 * x + (1 - o.beta1) * g[i] * o.gradScale);
      routines.adamw(p, g, m, v, o);
      expectClose(p, wanted);
      expectClose(m, moments);
    });

    it("sums and scales", () => {
      const [x, y, out] = ["x", "y", "out"].map((name) => make(name, [203]));
      expectClose([routines.sumSquares(x)], [x.reduce((sum, value) => sum + value ** 2, 0)]);
      routines.add(out, x, y);
      expect(out).toEqual(x.map((value, i) => value + y[i]));
      const before = y.slice();
      routines.addInto(y, x);
      expect(y).toEqual(before.map((value, i) => value + x[i]));
      const scaled = x.map((value) => value * 3);
      routines.scale(x, 3);
      expect(x).toEqual(scaled);
    });

    it("gathers and scatters rows", () => {
      const [x, out, y] = [make("x", [6, 5]), make("out", [4, 5]), make("y", [6, 5])];
      const row = (from: Float32Array, r: number): number[] => [...from.subarray(r * 5, r * 5 + 5)];
      routines.gatherRows(out, x, indices([5, 0, 0, 3]), 5);
      expect([0, 1, 2, 3].map((r) => row(out, r))).toEqual([5, 0, 0, 3].map((r) => row(x, r)));
      const before = y.slice();
      routines.scatterAddRows(y, out, indices([2, -1, 2, 0]), 5);
      const plus = (r: number, ...from: number[]): number[] =>
        row(before, r).map((value, i) => from.reduce((sum, f) => Math.fround(sum + out[f * 5 + i]), value));
      expect([0, 1, 2, 3].map((r) => row(y, r))).toEqual([plus(0, 3), plus(1), plus(2, 0, 2), plus(3)]);
    });

    it.each([true, false])("combines rows and differentiates that (scaled: %s)", (isScaled) => {
      const dims = { T: 3, K: 2, width: 7 };
      const [base, rows, weight, dOut] = [
        make("base", [3, 7]),
        make("rows", [5, 7]),
        make("weight", [3, 2]),
        make("d", [3, 7]),
      ];
      const scale = isScaled ? make("scale", [3]) : undefined;
      const slots = [4, 0, -1, 2, 3, 1];
      const slot = indices(slots);
      const sum = (t: number, term: (row: number, j: number) => number): number =>
        [0, 1].reduce(
          (total, j) => total + (slots[t * 2 + j] < 0 ? 0 : term(slots[t * 2 + j], t * 2 + j)),
          0,
        );
      const out = make("out", [3, 7]);
      routines.combineRows(out, base, rows, slot, weight, scale, dims);
      expectClose(
        out,
        Array.from(out, (_v, at) => {
          const [t, i] = [Math.floor(at / 7), at % 7];
          return base[at] + (scale?.[t] ?? 1) * sum(t, (row, j) => weight[j] * rows[row * 7 + i]);
        }),
      );
      const [dRows, dWeight] = [make("dRows", [5, 7]), make("dWeight", [3, 2])];
      const dScale = isScaled ? make("dScale", [3]) : undefined;
      routines.combineRowsGrad(dRows, dWeight, dScale, dOut, rows, slot, weight, scale, dims);
      const dot = (row: number, t: number): number =>
        [0, 1, 2, 3, 4, 5, 6].reduce((total, i) => total + rows[row * 7 + i] * dOut[t * 7 + i], 0);
      expectClose(
        dWeight,
        slots.map((row, j) => (row < 0 ? 0 : (scale?.[j >> 1] ?? 1) * dot(row, j >> 1))),
      );
      slots.forEach((row, j) => {
        if (row < 0) return;
        const factor = (scale?.[j >> 1] ?? 1) * weight[j];
        expectClose(
          dRows.subarray(row * 7, row * 7 + 7),
          Array.from(dOut.subarray((j >> 1) * 7, (j >> 1) * 7 + 7), (d) => factor * d),
        );
      });
      if (dScale !== undefined)
        expectClose(
          dScale,
          [0, 1, 2].map((t) => sum(t, (row, j) => weight[j] * dot(row, t))),
        );
    });

    it("rounds to bf16 and back: to nearest, ties to even", () => {
      const given = [
        1,
        -2.5,
        0,
        3.4e38,
        1e-40,
        1 + 2 ** -9,
        1 + 2 ** -8,
        1 + 3 * 2 ** -8,
        Infinity,
        NaN,
        0.1,
      ];
      const wanted = [1, -2.5, 0, Infinity, 1e-40, 1, 1, 1 + 2 ** -6, Infinity, NaN, 0.10009765625];
      const x = make("x", [given.length]);
      x.set(given);
      const half = new Uint16Array(
        homeOf(turn++).buffer,
        indices(new Array<number>(6).fill(0)).byteOffset,
        given.length,
      );
      const words = half.buffer === x.buffer ? half : new Uint16Array(given.length);
      const back = make("back", [given.length]);
      routines.toBf16(words, x);
      routines.fromBf16(back, words);
      back.forEach((value, i) => {
        if (given[i] === 1e-40) expect(Math.abs(value - 1e-40)).toBeLessThan(2e-40);
        else expect(value).toBe(Math.fround(wanted[i]));
      });
    });
  });
});
