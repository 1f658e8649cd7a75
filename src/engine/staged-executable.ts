/**
 * A kernel in stages: graphs on the engine, routines between them. What one stage hands to the next lives in the arena
 * of the kernel's own tensors for as long as it is needed.
 */
import { assert } from "../core/errors.js";
import type { Data, Tensor } from "../core/tensor.js";
import { numElements } from "../core/tensor.js";
import type { Kernel } from "../kernel/kernel.js";
import { type Symbols, bindSymbols, concreteDims } from "../kernel/symbols.js";
import type { Arena } from "./arena.js";
import { Signature } from "./bindings.js";
import type { Bindings, Executable } from "./engine.js";
import { type KernelRoutine, kernelRoutine } from "./kernel-routines.js";
import { inOneMemory, spareArena } from "./one-memory.js";
import { arenaOf } from "./shared-arena.js";
import { type HandedLives, type RoutineStage, type StagedKernel, livesOf } from "./stages.js";

type CompiledRoutine = RoutineStage & { readonly routine: KernelRoutine };
type CompiledStage =
  | { readonly kind: "graph"; readonly names: readonly string[]; readonly executable: Executable }
  | CompiledRoutine;

export class StagedExecutable implements Executable {
  readonly #signature: Signature;
  readonly #stages: readonly CompiledStage[];
  readonly #lives: HandedLives;

  constructor(
    readonly kernel: Kernel,
    readonly staged: StagedKernel,
    compileGraph: (kernel: Kernel) => Executable,
  ) {
    this.#signature = new Signature(kernel);
    this.#stages = staged.stages.map((stage): CompiledStage =>
      stage.kind === "graph"
        ? {
            kind: "graph",
            names: [...stage.kernel.inputs, ...stage.kernel.outputs].map((v) => v.name),
            executable: compileGraph(stage.kernel),
          }
        : { ...stage, routine: kernelRoutine(stage.op) as KernelRoutine },
    );
    this.#lives = livesOf(staged);
  }

  run(bindings: Bindings): void {
    if (this.#signature.check(bindings)) return this.#signature.zeroOutputs(bindings);
    const symbols = bindSymbols(this.kernel, bindings);
    const scratch = new Scratch(homeOf(this.kernel, bindings));
    const values: Record<string, Tensor> = { ...bindings };
    try {
      this.#stages.forEach((stage, i) => {
        for (const name of this.#lives.made[i])
          values[name] = this.#handed(name, i, { values, symbols, scratch });
        if (stage.kind === "graph")
          stage.executable.run(Object.fromEntries(stage.names.map((name) => [name, values[name]])));
        else runRoutine(stage, values);
        for (const name of this.#lives.done[i]) scratch.release(values[name].data);
      });
    } finally {
      scratch.close();
    }
  }

  /** Memory for a handed value: over an operand that is not needed any more, or fresh. */
  #handed(
    name: string,
    index: number,
    c: { values: Record<string, Tensor>; symbols: Symbols; scratch: Scratch },
  ): Tensor {
    const expr = this.staged.handed.get(name);
    assert(expr !== undefined, `${this.kernel.name}: ${name} is handed between stages`);
    const dims = concreteDims(expr.dims, c.symbols);
    const stage = this.#stages[index];
    if (stage.kind === "routine" && stage.routine.overwrites !== undefined) {
      const operand = stage.inputs[stage.routine.overwrites];
      if (this.#lives.done[index].includes(operand) && c.values[operand].data.length === numElements(dims)) {
        c.scratch.keep(c.values[operand].data);
        return { data: c.values[operand].data, dims };
      }
    }
    return { data: c.scratch.take(numElements(dims)), dims };
  }
}

/** The arena that holds the largest of the kernel's activations. */
function homeOf(kernel: Kernel, bindings: Bindings): Arena {
  const names = [
    ...kernel.inputs.filter((i) => i.role !== "parameter").map((i) => i.name),
    ...kernel.outputs.filter((o) => o.aliasOf === undefined).map((o) => o.name),
  ];
  const largest = names
    .map((name) => bindings[name].data)
    .reduce<Data | undefined>((a, b) => (a === undefined || b.length > a.length ? b : a), undefined);
  return (largest && arenaOf(largest.buffer)) ?? spareArena();
}

/** Temporary memory of one run. */
class Scratch {
  readonly #held = new Map<Data, { arena: Arena; uses: number }>();

  constructor(readonly home: Arena) {}

  take(numElements: number): Float32Array {
    let arena = this.home;
    let view = arena.tryF32(numElements);
    if (view === undefined) {
      arena = spareArena();
      view = arena.f32(numElements);
    }
    this.#held.set(view, { arena, uses: 1 });
    return view;
  }

  /** A second value in the same memory. */
  keep(view: Data): void {
    const held = this.#held.get(view);
    if (held !== undefined) held.uses++;
  }

  release(view: Data): void {
    const held = this.#held.get(view);
    if (held === undefined || --held.uses > 0) return;
    held.arena.free(view);
    this.#held.delete(view);
  }

  close(): void {
    for (const [view, { arena }] of this.#held) arena.free(view);
  }
}

function runRoutine(
  { op, inputs: names, output, routine }: CompiledRoutine,
  values: Readonly<Record<string, Tensor>>,
): void {
  const out = values[output];
  const operands = names.map((name) => values[name]);
  const shape = { out: out.dims, operands: operands.map((o) => o.dims), op };
  inOneMemory([out.data, ...operands.map((o) => o.data)], [0], (kernels, [target, ...inputs]) =>
    routine.run(kernels, { out: target, inputs }, shape),
  );
}
