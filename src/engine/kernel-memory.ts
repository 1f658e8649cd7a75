/** Memory a kernel needs while it runs, beside its inputs and outputs, as `staged-executable.ts` runs it. Pure. */
import type { Kernel } from "../kernel/kernel.js";
import type { Symbols } from "../kernel/symbols.js";
import { elementBytes, workspaceBytes } from "../kernel/workspace.js";
import { kernelRoutine, routineUse } from "./kernel-routines.js";
import { type HandedLives, type RoutineStage, type StagedKernel, livesOf, stagesOf } from "./stages.js";

export interface KernelMemory {
  /** Peak of what stages hand to each other; it lies in the arena of the kernel's tensors. */
  readonly handedBytes: number;
  /** Most that one graph needs for its intermediate results; it lies in memory of the engine's own. */
  readonly graphBytes: number;
}

interface Cut {
  readonly staged: StagedKernel;
  readonly lives: HandedLives;
}

const cuts = new WeakMap<Kernel, Cut | "one graph">();

function cutOf(kernel: Kernel): Cut | "one graph" {
  let cut = cuts.get(kernel);
  if (cut === undefined) {
    const staged = stagesOf(kernel, routineUse);
    cuts.set(kernel, (cut = staged === undefined ? "one graph" : { staged, lives: livesOf(staged) }));
  }
  return cut;
}

/** @param symbols sizes that the kernel's expressions leave open */
export function kernelMemory(kernel: Kernel, symbols: Symbols): KernelMemory {
  const cut = cutOf(kernel);
  if (cut === "one graph") return { handedBytes: 0, graphBytes: workspaceBytes(kernel, symbols) };
  const { stages } = cut.staged;
  const graphs = stages.map((s) => (s.kind === "graph" ? workspaceBytes(s.kernel, symbols) : 0));
  return { handedBytes: handedBytes(cut, symbols), graphBytes: Math.max(0, ...graphs) };
}

/** A result of a routine takes the place of the operand that it may write over, when nothing needs that afterwards. */
function handedBytes({ staged: { stages, handed }, lives }: Cut, symbols: Symbols): number {
  const sizes = new Map([...handed].map(([name, expr]) => [name, elementBytes(expr, symbols)]));
  const pieces = new Map<string, { readonly bytes: number; uses: number }>();
  let [live, peak] = [0, 0];
  stages.forEach((stage, i) => {
    for (const name of lives.made[i]) {
      const bytes = sizes.get(name) as number;
      const operand = stage.kind === "routine" ? overwritten(stage) : undefined;
      const piece =
        operand !== undefined && lives.done[i].includes(operand) ? pieces.get(operand) : undefined;
      if (piece?.bytes === bytes) {
        piece.uses++;
        pieces.set(name, piece);
      } else {
        pieces.set(name, { bytes, uses: 1 });
        live += bytes;
      }
    }
    peak = Math.max(peak, live);
    for (const name of lives.done[i]) {
      const piece = pieces.get(name);
      if (piece !== undefined && --piece.uses === 0) live -= piece.bytes;
    }
  });
  return peak;
}

function overwritten({ op, inputs }: RoutineStage): string | undefined {
  const index = kernelRoutine(op)?.overwrites;
  return index === undefined ? undefined : inputs[index];
}
