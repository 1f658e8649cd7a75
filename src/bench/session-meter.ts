/** An engine that says what its kernel sessions take, and which weights they read. */
import type { Engine, Executable } from "../engine/engine.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import type { FixedParameters } from "../kernel/fix.js";

export interface SessionReading {
  readonly runs: number;
  /** Within onnxruntime: finding and binding tensors is not counted. */
  readonly ms: number;
  /** Of the weights that are part of the sessions that ran, in the form held, once for each run. */
  readonly weightBytes: number;
}

export interface SessionMeter {
  readonly engine: Engine;
  /** Since the last call. */
  take(): SessionReading;
}

export function sessionMeter(): SessionMeter {
  let reading = { runs: 0, ms: 0, weightBytes: 0 };
  const engine = createOrtEngine({
    onSessionRun(ms) {
      reading.runs++;
      reading.ms += ms;
    },
  });
  return {
    engine: {
      ...engine,
      compile(kernel, fixed): Executable {
        const executable = engine.compile(kernel, fixed);
        if (fixed === undefined) return executable;
        const bytes = fixedBytes(fixed);
        return {
          run(bindings) {
            const { runs } = reading;
            executable.run(bindings);
            // Without rows nothing runs.
            reading.weightBytes += (reading.runs - runs) * bytes;
          },
        };
      },
    },
    take() {
      const taken = reading;
      reading = { runs: 0, ms: 0, weightBytes: 0 };
      return taken;
    },
  };
}

function fixedBytes(fixed: FixedParameters): number {
  return Object.values(fixed).reduce(
    (sum, weight) =>
      sum +
      ("packed" in weight ? weight.packed.byteLength + weight.scales.byteLength : weight.data.length * 4),
    0,
  );
}
