import { addressOf } from "../core/address.js";
import { numElements } from "../core/tensor.js";
import type { Tensor } from "../core/tensor.js";
import type { Dim, Kernel } from "../kernel/kernel.js";
import { kernelKey } from "../kernel/key.js";
import { encodeOnnx, onnxOutputName } from "../kernel/onnx/encode.js";
import { flushDenormals } from "./denormals.js";
import type { Bindings, Engine, Executable } from "./engine.js";
import { type OrtApi, type OrtSession, ortApi } from "./ort-api.js";
import { createSharedArena } from "./shared-arena.js";
import { wasmRoutines } from "./wasm-routines.js";

/** Kernels on onnxruntime (CPU, one thread), tensors bound by address without copies. One per thread. */
export function createOrtEngine(): Engine {
  flushDenormals();
  const api = ortApi();
  const cache = new Map<string, OrtExecutable>();
  return {
    name: `onnxruntime ${api.version}`,
    routines: wasmRoutines,
    newArena: createSharedArena,
    compile(kernel) {
      const key = kernelKey(kernel);
      let executable = cache.get(key);
      if (executable === undefined) cache.set(key, (executable = new OrtExecutable(api, kernel)));
      return executable;
    },
    dispose() {
      for (const executable of cache.values()) executable.release();
      cache.clear();
    },
  };
}

class OrtExecutable implements Executable {
  readonly #session: OrtSession;
  readonly #outputs: readonly { readonly binding: string; readonly onnx: string }[];

  constructor(
    readonly api: OrtApi,
    readonly kernel: Kernel,
  ) {
    const encoded = encodeOnnx(kernel);
    this.#session = api.createSession(encoded.bytes, encoded.inputs, encoded.outputs);
    this.#outputs = kernel.outputs.map((o) => ({ binding: o.name, onnx: onnxOutputName(o.name, kernel) }));
  }

  run(bindings: Bindings): void {
    const { kernel, api } = this;
    const empty = checkBindings(kernel, bindings);
    if (empty) return zeroOutputs(kernel, bindings);
    const values: bigint[] = [];
    const bind = (tensor: Tensor): bigint => {
      const { data, dims } = tensor;
      const value = api.createValue(
        addressOf(data),
        data.byteLength,
        dims,
        data instanceof Float32Array ? "f32" : "i32",
      );
      values.push(value);
      return value;
    };
    try {
      const inputs = kernel.inputs.map((input) => bind(bindings[input.name]));
      this.#session.run(
        inputs,
        this.#outputs.map((output) => bind(bindings[output.binding])),
      );
    } finally {
      for (const value of values) api.releaseValue(value);
    }
  }

  release(): void {
    this.#session.release();
  }
}

/** Whether a symbolic size is zero, so that there is nothing to compute. @throws Error when a binding does not fit */
export function checkBindings(kernel: Kernel, bindings: Bindings): boolean {
  let empty = false;
  const check = (name: string, dims: readonly Dim[]): void => {
    const tensor = bindings[name];
    if (tensor === undefined) throw new Error(`${kernel.name}: nothing is bound to ${name}`);
    const fits =
      tensor.dims.length === dims.length &&
      dims.every((dim, i) => typeof dim === "string" || dim === tensor.dims[i]);
    if (!fits)
      throw new Error(`${kernel.name}: ${name} is [${tensor.dims.join(", ")}], wanted [${dims.join(", ")}]`);
    if (tensor.data.length !== numElements(tensor.dims))
      throw new Error(
        `${kernel.name}: ${name} holds ${tensor.data.length} elements, its dims say [${tensor.dims.join(", ")}]`,
      );
    if (tensor.data.length === 0) empty = true;
  };
  for (const input of kernel.inputs) check(input.name, input.expr.dims);
  for (const output of kernel.outputs) check(output.name, output.expr.dims);
  return empty;
}

/** What a kernel over zero rows leaves: accumulated outputs as they are, the others zero. */
export function zeroOutputs(kernel: Kernel, bindings: Bindings): void {
  for (const output of kernel.outputs) if (output.aliasOf === undefined) bindings[output.name].data.fill(0);
}
