/** What the tests of engines share. */
import { expect } from "vitest";
import { philox } from "../src/core/rng.js";
import { type Tensor, numElements } from "../src/core/tensor.js";
import type { Arena } from "../src/engine/arena.js";
import type { Engine } from "../src/engine/engine.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { createReferenceEngine } from "./reference/engine.js";

export const ENGINES: [string, () => Engine][] = [
  ["onnxruntime", createOrtEngine],
  ["reference", createReferenceEngine],
];

/** The same engine; `compiled()` is the number of kernels compiled since the last call. */
export function countingEngine(engine: Engine): { readonly engine: Engine; readonly compiled: () => number } {
  let numCompiled = 0;
  const compile: Engine["compile"] = (...given) => {
    numCompiled++;
    return engine.compile(...given);
  };
  const compiled = (): number => {
    const found = numCompiled;
    numCompiled = 0;
    return found;
  };
  return { engine: { ...engine, compile }, compiled };
}

/** Standard normal numbers that depend on the name only. */
export function filled(arena: Arena, name: string, dims: readonly number[]): Tensor<Float32Array> {
  const data = arena.f32(numElements(dims));
  philox(17, name).fillNormal(data, 0, 1);
  return { data, dims };
}

/** Relative to the largest wanted value. */
export function expectClose(
  found: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance = 2e-6,
  what = "",
): void {
  const scale = Math.max(1e-6, ...Array.from(wanted, Math.abs));
  expect(found.length, what).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++)
    expect(Math.abs(found[i] - wanted[i]) / scale, `${what}[${i}]: ${found[i]} ≈ ${wanted[i]}`).toBeLessThan(
      tolerance,
    );
}
