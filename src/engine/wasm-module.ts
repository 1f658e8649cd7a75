/** The WebAssembly routines of `assembly/`, instantiated once per memory. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { EnvironmentError } from "../core/errors.js";
import { memoryOf } from "./shared-arena.js";

/** Arguments are byte offsets into the memory, counts and scalars; what each does is said in `assembly/`. */
export type WasmKernels = Readonly<
  Record<
    | "adamw"
    | "sumSquares"
    | "scale"
    | "add"
    | "combineRows"
    | "combineRowsGrad"
    | "toBf16"
    | "fromBf16"
    | "geluGrad"
    | "siluGrad"
    | "softmaxGrad"
    | "normGrad"
    | "normScaleGrad"
    | "crossEntropyGrad"
    | "addPrefixes"
    | "transpose"
    | "columnSums"
    | "sumWords",
    (...args: number[]) => number
  >
>;

let module: WebAssembly.Module | undefined;

function compiled(): WebAssembly.Module {
  if (module !== undefined) return module;
  const here = fileURLToPath(new URL("./routines.wasm", import.meta.url));
  const candidates = [here, here.replace(/src([\\/])engine/, "dist$1engine")];
  for (const path of candidates) {
    try {
      module = new WebAssembly.Module(readFileSync(path));
      return module;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw new EnvironmentError(`The WebAssembly routines are not built (${here}); run: npm run build`);
}

const instances = new WeakMap<WebAssembly.Memory, WasmKernels>();

/** The routines over an arena's memory, or undefined when the buffer is not an arena's. */
export function wasmKernels(buffer: ArrayBufferLike): WasmKernels | undefined {
  const memory = memoryOf(buffer);
  if (memory === undefined) return undefined;
  let kernels = instances.get(memory);
  if (kernels === undefined) {
    kernels = new WebAssembly.Instance(compiled(), { env: { memory } }).exports as unknown as WasmKernels;
    instances.set(memory, kernels);
  }
  return kernels;
}
