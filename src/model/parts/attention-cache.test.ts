/** Attention over a cache against the form whose positions are constants. */
import { afterAll, describe, it } from "vitest";
import { numElements } from "../../core/tensor.js";
import type { Engine } from "../../engine/engine.js";
import { createOrtEngine } from "../../engine/ort-engine.js";
import { createReferenceEngine } from "../../../test/reference/engine.js";
import { type Tensors, expectEqual, normal, run, weights } from "../../../test/attention-runs.js";
import { KINDS } from "../../../test/attention-kinds.js";

const B = 2;
const ENGINES: [string, () => Engine][] = [
  ["onnxruntime", createOrtEngine],
  ["reference", createReferenceEngine],
];

describe.each(ENGINES)("%s", (_engine, create) => {
  const engine = create();
  afterAll(() => engine.dispose());

  it.each(KINDS)("with a cache, in pieces of any length: the whole at once: %s", (_name, kernelOf) => {
    const [S, C] = [12, 15];
    const whole = kernelOf(S);
    const given = { x: normal("x", [B * S, 24]), ...weights(whole) };
    const { y } = run(engine.compile(whole), whole, given);
    const kernel = kernelOf("S", { cache: true });
    const executable = engine.compile(kernel);
    // Values that are part of the keys are not kept beside them. What is beyond a sequence's rows must not matter.
    const caches = kernel.inputs.flatMap(({ name, expr: { dims } }) =>
      name.startsWith("cache_") ? [{ name, dims: [dims[1], C, dims[3]] as number[] }] : [],
    );
    const empty = (): Record<string, Float32Array> =>
      Object.fromEntries(
        caches.map(({ name, dims }) => [name, new Float32Array(B * numElements(dims)).fill(7)]),
      );
    /** Rows [from, to) of sequences [first, first + count). */
    const step = (
      cache: Record<string, Float32Array>,
      first: number,
      count: number,
      at: readonly number[],
      n: number,
    ) => {
      const rows = Array.from({ length: count }, (_, b) => [
        ...given.x.data.subarray(((first + b) * S + at[b]) * 24, ((first + b) * S + at[b] + n) * 24),
      ]).flat();
      const places = Array.from({ length: count }, (_, b) =>
        Array.from({ length: n }, (_row, i) => at[b] + i),
      ).flat();
      const bound: Tensors = {
        ...given,
        x: { data: Float32Array.from(rows), dims: [count * n, 24] },
        positions: { data: Int32Array.from(places), dims: [count, 1, n] },
        last: { data: Int32Array.from(at.slice(0, count), (p) => p + n - 1), dims: [count] },
        total: { data: Int32Array.of(Math.max(...at.slice(0, count)) + n), dims: [1] },
        y: { data: new Float32Array(count * n * 24), dims: [count * n, 24] },
      };
      for (const { name, dims } of caches) {
        const size = numElements(dims);
        bound[name] = {
          data: cache[name].subarray(first * size, (first + count) * size),
          dims: [count, ...dims],
        };
      }
      for (const { name, aliasOf } of kernel.outputs) if (aliasOf !== undefined) bound[name] = bound[aliasOf];
      executable.run(bound);
      at.slice(0, count).forEach((p, b) =>
        expectEqual(
          { data: bound.y.data.subarray(b * n * 24, (b + 1) * n * 24), dims: [n, 24] },
          {
            data: y.data.subarray(((first + b) * S + p) * 24, ((first + b) * S + p + n) * 24),
            dims: [n, 24],
          },
          1e-6,
          `sequence ${first + b}, rows ${p} to ${p + n}`,
        ),
      );
    };
    const cache = empty();
    // Each sequence read in pieces of its own, then a row of both at a time, at places that differ.
    for (const [first, from, to] of [
      [0, 0, 5],
      [1, 0, 3],
      [1, 3, 7],
      [1, 7, 8],
    ] as const)
      step(cache, first, 1, [from], to - from);
    for (let i = 0; i < 4; i++) step(cache, 0, 2, [5 + i, 8 + i], 1);
    // One row at a time from the start.
    const single = empty();
    for (let i = 0; i < S; i++) step(single, 0, 2, [i, i], 1);
  });
});
