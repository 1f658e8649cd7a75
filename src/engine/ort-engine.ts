import { nowMs } from "../core/clock.js";
import type { Kernel } from "../kernel/kernel.js";
import { fixParameters } from "../kernel/fix.js";
import { kernelKey } from "../kernel/key.js";
import { encodeOnnx } from "../kernel/onnx/encode.js";
import { Signature } from "./bindings.js";
import { flushDenormals } from "./denormals.js";
import type { Bindings, Engine, Executable } from "./engine.js";
import { routineUse } from "./kernel-routines.js";
import { type OrtApi, type OrtSession, ortApi } from "./ort-api.js";
import { OrtValues } from "./ort-values.js";
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
  const values = new OrtValues(api);
  const cache = new Map<string, Executable>();
  const graphs: OrtExecutable[] = [];
  const build = (kernel: Kernel): Executable => {
    const staged = stagesOf(kernel, routineUse);
    return staged === undefined ? graph(kernel) : new StagedExecutable(kernel, staged, (part) => graph(part));
  };
  const graph = (kernel: Kernel, use?: "inference"): Executable => {
    const executable = new OrtExecutable(api, values, kernel, { use, onSessionRun });
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
      values.clear();
    },
  };
}

/** A kernel as one tensor graph. */
class OrtExecutable implements Executable {
  readonly #session: OrtSession;
  readonly #signature: Signature;

  constructor(
    api: OrtApi,
    readonly values: OrtValues,
    kernel: Kernel,
    { use, onSessionRun }: OrtEngineOptions & { readonly use?: "inference" | undefined },
  ) {
    this.#session = timed(api.createSession(encodeOnnx(kernel, use)), onSessionRun);
    this.#signature = new Signature(kernel);
  }

  run(bindings: Bindings): void {
    const [signature, values] = [this.#signature, this.values];
    if (signature.check(bindings)) return signature.zeroOutputs(bindings);
    values.makeRoom();
    const { inputs, outputs } = this.#session;
    signature.inputs.forEach(({ name }, i) => (inputs[i] = values.of(bindings[name])));
    signature.outputs.forEach(({ name }, i) => (outputs[i] = values.of(bindings[name])));
    this.#session.run();
  }

  release(): void {
    this.#session.release();
  }
}

function timed(session: OrtSession, onRun: OrtEngineOptions["onSessionRun"]): OrtSession {
  if (onRun === undefined) return session;
  return {
    ...session,
    run() {
      const start = nowMs();
      session.run();
      onRun(nowMs() - start);
    },
  };
}
