/** Kernels cut into stages compute what the reference says, wherever their tensors lie, and leave no memory behind. */
import { afterAll, describe, expect, it } from "vitest";
import { trainingKernels } from "../../test/kernels.js";
import { philox } from "../core/rng.js";
import { type Tensor, numElements } from "../core/tensor.js";
import type { Kernel } from "../kernel/kernel.js";
import { evaluate } from "../../test/reference/evaluate.js";
import { concreteDims } from "../kernel/symbols.js";
import type { Arena } from "./arena.js";
import { kernelMemory } from "./kernel-memory.js";
import { routineUse } from "./kernel-routines.js";
import { createOrtEngine } from "./ort-engine.js";
import { stagesOf } from "./stages.js";

/** Sizes that are no multiples of a vector; three tiles of causal attention. */
const SEQUENCE = 150;
const BATCH = 2;
const SYMBOLS = new Map([
  ["T", SEQUENCE * BATCH],
  ["B", BATCH],
  ["R", 7],
]);

function kernels(style: "gpt" | "llama"): [string, Kernel][] {
  const model = {
    arch: "shared",
    style,
    vocab_size: 67,
    hidden_size: 30,
    intermediate_size: 46,
    num_attention_heads: 3,
    num_hidden_layers: 2,
    num_experts: 3,
    max_position_embeddings: SEQUENCE,
  };
  return trainingKernels(model, SEQUENCE).map(([name, { backward }]) => [name, backward]);
}

/** Tensors of a kernel; `arenaFor` says where each lies. */
function bind(kernel: Kernel, arenaFor: (name: string) => Arena): Record<string, Tensor> {
  const bound: Record<string, Tensor> = {};
  const make = (name: string, symbolic: Kernel["inputs"][number]["expr"]["dims"], isInt: boolean): Tensor => {
    const dims = concreteDims(symbolic, SYMBOLS);
    const arena = arenaFor(name);
    const data = isInt ? arena.i32(numElements(dims)) : arena.f32(numElements(dims));
    if (data instanceof Float32Array) philox(9, name).fillNormal(data, 0, 0.5);
    else data.forEach((_, i) => (data[i] = (i * 7) % 67));
    return { data, dims };
  };
  for (const { name, expr } of kernel.inputs) bound[name] = make(name, expr.dims, expr.dtype === "i32");
  for (const { name, expr, aliasOf } of kernel.outputs)
    bound[name] ??= aliasOf === undefined ? make(name, expr.dims, false) : bound[aliasOf];
  return bound;
}

describe.each(["gpt", "llama"] as const)("%s kernels", (style) => {
  const engine = createOrtEngine();
  afterAll(() => engine.dispose());
  const one = engine.newArena(2 ** 24, "one");
  const others = [0, 1, 2].map((i) => engine.newArena(2 ** 24, `other ${i}`));

  it.each(kernels(style))("%s", (name, kernel) => {
    if (name !== "gate") expect(stagesOf(kernel, routineUse)?.stages.length).toBeGreaterThan(1);
    const together = bind(kernel, () => one);
    const wanted = evaluate(kernel, together, "f64");
    let turn = 0;
    const apart = bind(kernel, () => others[turn++ % others.length]);
    const [live, liveOthers] = [one.liveBytes, others.map((arena) => arena.liveBytes)];
    engine.compile(kernel).run(together);
    engine.compile(kernel).run(apart);
    expect(one.liveBytes).toBe(live);
    expect(others.map((arena) => arena.liveBytes)).toEqual(liveOthers);
    for (const output of kernel.outputs) {
      const [got, want] = [together[output.name].data, wanted[output.name].data];
      const norm = Math.sqrt(want.reduce((sum, v) => sum + v * v, 0));
      const error = Math.sqrt(want.reduce((sum, v, i) => sum + (got[i] - v) ** 2, 0));
      expect(error / norm, output.name).toBeLessThan(3e-6);
      expect(Buffer.compare(bytes(got), bytes(apart[output.name].data)), output.name).toBe(0);
    }
  });
});

it.each(["gpt", "llama"] as const)("what stages hand to each other is known beforehand, %s", (style) => {
  const engine = createOrtEngine();
  for (const [name, kernel] of kernels(style)) {
    const arena = engine.newArena(2 ** 24, name);
    const bound = bind(kernel, () => arena);
    const before = arena.liveBytes;
    engine.compile(kernel).run(bound);
    const { handedBytes } = kernelMemory(kernel, SYMBOLS);
    const taken = Math.max(arena.peakBytes - before, 0);
    expect(taken, name).toBeGreaterThanOrEqual(handedBytes);
    // An arena takes multiples of 64 bytes.
    expect(taken, name).toBeLessThan(handedBytes + 64 * (stagesOf(kernel, routineUse)?.handed.size ?? 1));
  }
  engine.dispose();
});

function bytes(data: Tensor["data"]): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
