/** An engine that adds up the time its kernels take. */
import { nowMs } from "../core/clock.js";
import type { Engine, Executable } from "../engine/engine.js";

export function kernelClock(engine: Engine) {
  let total = 0;
  const timed = new WeakMap<Executable, Executable>();
  return {
    engine: {
      ...engine,
      compile(kernel, fixed) {
        const executable = engine.compile(kernel, fixed);
        let wrapped = timed.get(executable);
        if (wrapped === undefined) {
          wrapped = {
            run(bindings) {
              const start = nowMs();
              executable.run(bindings);
              total += nowMs() - start;
            },
          };
          timed.set(executable, wrapped);
        }
        return wrapped;
      },
    } satisfies Engine,
    /** Milliseconds in kernels since the last call. */
    take() {
      const taken = total;
      total = 0;
      return taken;
    },
  };
}
