/** The routines of every engine against formulas written out here, wherever their operands lie. */
import { afterAll, describe, expect, it } from "vitest";
import { ENGINES, expectClose, filled } from "../../test/engines.js";

const MIB = 2 ** 20;

describe.each(ENGINES)("%s", (_, create) => {
  const engine = create();
  const arena = engine.newArena(8 * MIB, "one");
  const other = engine.newArena(8 * MIB, "other");
  afterAll(() => engine.dispose());

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
      const rowsOf = [4, 0, -1, 2, 3, 1];
      const rowOf = indices(rowsOf);
      const sum = (t: number, term: (row: number, j: number) => number): number =>
        [0, 1].reduce(
          (total, j) => total + (rowsOf[t * 2 + j] < 0 ? 0 : term(rowsOf[t * 2 + j], t * 2 + j)),
          0,
        );
      const out = make("out", [3, 7]);
      routines.combineRows(out, base, rows, rowOf, weight, scale, dims);
      expectClose(
        out,
        Array.from(out, (_v, at) => {
          const [t, i] = [Math.floor(at / 7), at % 7];
          return base[at] + (scale?.[t] ?? 1) * sum(t, (row, j) => weight[j] * rows[row * 7 + i]);
        }),
      );
      const [dRows, dWeight] = [make("dRows", [5, 7]), make("dWeight", [3, 2])];
      const dScale = isScaled ? make("dScale", [3]) : undefined;
      routines.combineRowsGrad(dRows, dWeight, dScale, dOut, rows, rowOf, weight, scale, dims);
      const dot = (row: number, t: number): number =>
        [0, 1, 2, 3, 4, 5, 6].reduce((total, i) => total + rows[row * 7 + i] * dOut[t * 7 + i], 0);
      expectClose(
        dWeight,
        rowsOf.map((row, j) => (row < 0 ? 0 : (scale?.[j >> 1] ?? 1) * dot(row, j >> 1))),
      );
      rowsOf.forEach((row, j) => {
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
