/** Attention of any length against the form whose positions are constants. */
import { afterAll, describe, expect, it } from "vitest";
import { type Tensor, numElements } from "../../core/tensor.js";
import type { Engine, Executable } from "../../engine/engine.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { createReferenceEngine } from "../../../test/reference/engine.js";
import { differentiate } from "../../kernel/differentiate.js";
import { evaluate } from "../../../test/reference/evaluate.js";
import type { Kernel } from "../../kernel/kernel.js";
import { type Tensors, expectEqual, normal, run, weights } from "../../../test/attention-runs.js";
import { KINDS, gpt, llama } from "../../../test/attention-kinds.js";
import { attentionKernel } from "./attention.js";

const B = 2;
/** With the longest sequence that each is asked for: several tiles. */
const ENGINES: [string, () => Engine, number][] = [
  ["onnxruntime", createOrtEngine, 150],
  ["reference", createReferenceEngine, 70],
];

const integers = (first: number, length: number): Tensor => ({
  data: Int32Array.from({ length }, (_, i) => first + i),
  dims: [length],
});

describe.each(ENGINES)("%s", (_engine, create, longest) => {
  const engine = create();
  afterAll(() => engine.dispose());

  it.each(KINDS)("any length, one compilation: %s", (_name, kernelOf) => {
    const any = differentiate(kernelOf("S"));
    const [forward, backward] = [engine.compile(any.forward), engine.compile(any.backward)];
    for (const S of [7, 1, longest]) {
      const of = differentiate(kernelOf(S));
      const given: Tensors = {
        x: normal("x", [B * S, 24]),
        d_y: normal("d_y", [B * S, 24]),
        ...weights(of.forward),
      };
      for (const { name, expr, role } of of.backward.inputs)
        if (role === "parameter" && name.startsWith("g_"))
          given[name] = {
            data: new Float32Array(numElements(expr.dims as number[])),
            dims: expr.dims as number[],
          };
      const half = (kernel: Kernel, executable: Executable, from: Tensors): Tensors => {
        const fresh = Object.entries(from).map(([name, t]) => [name, { ...t, data: t.data.slice() }]);
        return run(executable, kernel, Object.fromEntries(fresh) as Tensors);
      };
      const kept = half(of.forward, engine.compile(of.forward), given);
      const wanted = half(of.backward, engine.compile(of.backward), kept);
      const saved = half(any.forward, forward, { ...given, positions: integers(0, S) });
      const found = half(any.backward, backward, saved);
      const names = ["y", ...of.backward.outputs.map((o) => o.name)];
      expect(any.backward.outputs.map((o) => o.name)).toEqual(names.slice(1));
      for (const name of names) expectEqual(found[name], wanted[name], 1e-6, `${name}, S = ${S}`);
    }
  });
});

it.each(KINDS)("documents told apart are attended to one by one: %s", (_name, kernelOf) => {
  // Several tiles; documents that end inside one and span several.
  const S = 150;
  const begins = [
    [0, 100],
    [0, 9, 64],
  ];
  const starts = begins.flatMap((places) =>
    Array.from({ length: S }, (_, s) => Math.max(...places.filter((place) => place <= s))),
  );
  const kernel = kernelOf(S, { documents: true });
  const given = { ...weights(kernel), x: normal("x", [B * S, 24]) };
  const { y } = evaluate(
    kernel,
    { ...given, starts: { data: Int32Array.from(starts), dims: [B, S] } },
    "f64",
  );
  const rows = (
    { data }: { data: Float64Array | Float32Array | Int32Array },
    from: number,
    to: number,
  ): Tensor => ({
    data: Float32Array.from(data.subarray(from * 24, to * 24)),
    dims: [to - from, 24],
  });
  begins.forEach((places, b) =>
    places.forEach((place, d) => {
      const [from, to] = [b * S + place, b * S + (places[d + 1] ?? S)];
      const alone = evaluate(kernelOf(to - from), { ...given, x: rows(given.x, from, to) }, "f64");
      expectEqual(rows(y, from, to), rows(alone.y, 0, to - from), 1e-6, `document ${d} of ${b}`);
    }),
  );
});

describe("window", () => {
  it.each([
    ["gpt", gpt],
    ["llama", llama],
  ] as const)("is attention over the last rows alone: %s", (_name, shape) => {
    // Several blocks; a window that ends inside one.
    const [S, window] = [150, 37];
    const kernel = attentionKernel({ ...shape, window }, S);
    const given = { ...weights(kernel), x: normal("x", [S, 24]) };
    const y = evaluate(kernel, given, "f64").y.data;
    for (const row of [0, 3, 36, 37, 64, 100, 149]) {
      const first = Math.max(0, row - window + 1);
      const length = row - first + 1;
      const x = { data: given.x.data.subarray(first * 24, (row + 1) * 24), dims: [length, 24] };
      // Without a window. Where the rows begin does not matter: rotary scores depend on distances only.
      const alone = evaluate(attentionKernel(shape, length), { ...given, x }, "f64").y.data;
      const at = (data: Float64Array, r: number): Tensor => ({
        data: Float32Array.from(data.subarray(r * 24, (r + 1) * 24)),
        dims: [24],
      });
      expectEqual(at(y, row), at(alone, length - 1), 1e-6, `row ${row}`);
    }
  });
});

it("rotary positions stay exact far out: only distances matter", () => {
  const engine = createOrtEngine();
  const kernel = attentionKernel(llama, "S");
  const given = { ...weights(kernel), x: normal("x", [B * 9, 24]) };
  const [near, far] = [0, 1_000_000].map((first) =>
    run(engine.compile(kernel), kernel, { ...given, positions: integers(first, 9) }),
  );
  expectEqual(far.y, near.y, 1e-6, "y");
  engine.dispose();
});
