/** What every engine must do, run against each; whatever it answers is checked against formulas written out here. */
import { afterAll, describe, expect, it } from "vitest";
import { ENGINES, expectClose, filled } from "../../test/engines.js";
import { evaluate } from "../../test/reference/evaluate.js";
import type { Tensor } from "../core/tensor.js";
import * as k from "../kernel/build.js";
import type { Kernel } from "../kernel/kernel.js";

const MIB = 2 ** 20;

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
      ["GELU", k.geluGrad],
      ["SiLU", k.siluGrad],
    ])("know the slope of %s everywhere", (_name, gradient) => {
      const slope = k.kernel("slope", { y: gradient(k.input("x", ["T"]), k.input("dy", ["T"])) });
      const size = 20_001;
      const [x, dy, y] = ["x", "dy", "y"].map((name) => filled(arena, name, [size]));
      x.data.forEach((_, i) => (x.data[i] = (i - 10_000) / 400));
      dy.data.fill(1);
      const wanted = evaluate(slope, { x, dy }, "f64").y.data;
      const executable = engine.compile(slope);
      executable.run({ x, dy, y });
      const errors = wanted.map((value, i) => Math.abs(value - y.data[i]));
      expect(Math.max(...errors)).toBeLessThan(5e-7);
      x.data.set([0, NaN, 1e-30]);
      executable.run({ x, dy, y });
      expect([...y.data.subarray(0, 3)]).toEqual([0.5, NaN, expect.closeTo(0.5, 6)]);
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
    it("give aligned allocations that do not overlap, and take them back", () => {
      const room = engine.newArena(MIB, "room");
      const views = [room.f32(3), room.i32(100), room.u8(65), room.f32(1)];
      expect(views.every((view) => view.byteOffset % 64 === 0 && view.buffer === room.buffer)).toBe(true);
      views.forEach((view, i) => view.fill(i + 1));
      expect(views.every((view, i) => view.every((v) => v === i + 1))).toBe(true);
      const peak = room.peakBytes;
      for (const at of [1, 3, 0, 2]) room.free(views[at]);
      expect([room.liveBytes, room.peakBytes]).toEqual([0, peak]);
      const whole = room.u8(room.capacityBytes);
      expect(() => room.f32(1)).toThrow('Arena "room" has no 64 bytes');
      room.free(whole);
      expect(() => room.free(whole)).toThrow("not an allocation of this arena");
    });
  });
});
