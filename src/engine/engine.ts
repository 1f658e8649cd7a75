import type { Tensor } from "../core/tensor.js";
import type { FixedParameters } from "../kernel/fix.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Arena } from "./arena.js";
import type { Routines } from "./routines.js";

/** Tensors by the kernel's input and output names. Outputs are preallocated and written in place. */
export type Bindings = Readonly<Record<string, Tensor>>;

export interface Executable {
  /**
   * Computes the kernel once, synchronously on the calling thread.
   * Symbolic dims are bound by the tensors given; zero rows are allowed and compute nothing.
   * @throws Error when a binding is missing or its dims do not fit the kernel
   */
  run(bindings: Bindings): void;
}

/** Runs kernels. One engine per rank (thread). */
export interface Engine {
  readonly name: string;
  /**
   * Compiled kernels are cached by structure, so layers share them: weights are inputs. Weights given as `fixed` are
   * compiled in, which makes products of few rows two to three times as fast; `run` needs no binding for them, their
   * memory is not read again, and nothing is shared or cached. Such a kernel runs as one graph.
   * @param fixed parameters by name; quantised ones, where only products of rows read them
   * @throws Error when one is no parameter of the kernel or does not fit it
   * @throws InputError when those that other ops than products read are more than the engine takes in one kernel
   *   (onnxruntime: 2 GiB)
   */
  compile(kernel: Kernel, fixed?: FixedParameters): Executable;
  /** A region of memory every tensor of a run lives in; see `arena.ts`. */
  newArena(capacityBytes: number, label: string): Arena;
  /** Element-wise hot loops that are not worth a tensor graph (optimiser, gather, scatter). */
  readonly routines: Routines;
  dispose(): void;
}
