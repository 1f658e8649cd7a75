import { addressOf } from "../core/address.js";
import { nowMs } from "../core/clock.js";
import type { Tensor } from "../core/tensor.js";
import type { Kernel } from "../kernel/kernel.js";
import { fixParameters } from "../kernel/fix.js";
import { kernelKey } from "../kernel/key.js";
import { encodeOnnx } from "../kernel/onnx/encode.js";
import { Signature } from "./bindings.js";
import { flushDenormals } from "./denormals.js";
import type { Bindings, Engine, Executable } from "./engine.js";
import { routineUse } from "./kernel-routines.js";
import { type OrtApi, type OrtSession, ortApi } from "./ort-api.js";
import { createSharedArena } from "./shared-arena.js";
import { StagedExecutable } from "./staged-executable.js";
import { stagesOf } from "./stages.js";
import { wasmRoutines } from "./wasm-routines.js";

export interface OrtEngineOptions {
  /** Hears of every run of a session what it took, in milliseconds: onnxruntime alone, without the binding of tensors. */
  readonly onSessionRun?: ((ms: number) => void) | undefined;
}

/**
 * Kernels on onnxruntime (CPU, one thread), tensors bound by address without copies; ops that have a WebAssembly
 * routine run between graphs. One engine per thread.
 */
export function createOrtEngine({ onSessionRun }: OrtEngineOptions = {}): Engine {
  flushDenormals();
  const api = ortApi();
  const cache = new Map<string, Executable>();
  const graphs: OrtExecutable[] = [];
  const build = (kernel: Kernel): Executable => {
    const staged = stagesOf(kernel, routineUse);
    return staged === undefined ? graph(kernel) : new StagedExecutable(kernel, staged, (part) => graph(part));
  };
  const graph = (kernel: Kernel, use?: "inference"): Executable => {
    const executable = new OrtExecutable(api, kernel, { use, onSessionRun });
    graphs.push(executable);
    return executable;
  };
  return {
    name: `onnxruntime ${api.version}`,
    routines: wasmRoutines,
    newArena: createSharedArena,
    compile(kernel, fixed) {
      // One graph: what a routine saves is less than what a second session costs, where rows are few.
      if (fixed !== undefined) return graph(fixParameters(kernel, fixed), "inference");
      const key = kernelKey(kernel);
      let executable = cache.get(key);
      if (executable === undefined) {
        executable = build(kernel);
        cache.set(key, executable);
      }
      return executable;
    },
    dispose() {
      for (const executable of graphs) executable.release();
      graphs.length = 0;
      cache.clear();
    },
  };
}

/** A kernel as one tensor graph. */
class OrtExecutable implements Executable {
  readonly #session: OrtSession;
  readonly #signature: Signature;

  constructor(
    readonly api: OrtApi,
    kernel: Kernel,
    { use, onSessionRun }: OrtEngineOptions & { readonly use?: "inference" | undefined },
  ) {
    this.#session = timed(api.createSession(encodeOnnx(kernel, use)), onSessionRun);
    this.#signature = new Signature(kernel);
  }

  run(bindings: Bindings): void {
    const [signature, api] = [this.#signature, this.api];
    if (signature.check(bindings)) return signature.zeroOutputs(bindings);
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
      const [inputs, outputs] = [signature.inputs, signature.outputs].map((list) =>
        list.map(({ name }) => bind(bindings[name])),
      );
      this.#session.run(inputs, outputs);
    } finally {
      for (const value of values) api.releaseValue(value);
    }
  }

  release(): void {
    this.#session.release();
  }
}

function timed(session: OrtSession, onRun: OrtEngineOptions["onSessionRun"]): OrtSession {
  if (onRun === undefined) return session;
  return {
    run(inputs, outputs) {
      const start = nowMs();
      session.run(inputs, outputs);
      onRun(nowMs() - start);
    },
    release: () => session.release(),
  };
}
