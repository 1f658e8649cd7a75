import { type FixedParameter, fixParameters } from "../../src/kernel/fix.js";
import { evaluate } from "./evaluate.js";
import type { Engine } from "../../src/engine/engine.js";
import { Signature } from "../../src/engine/bindings.js";
import { referenceRoutines } from "./routines.js";
import { createSharedArena } from "../../src/engine/shared-arena.js";

function copyOf(weight: FixedParameter): FixedParameter {
  return "packed" in weight
    ? { ...weight, packed: weight.packed.slice(), scales: weight.scales.slice() }
    : { ...weight, data: Float32Array.from(weight.data) };
}

/** Every kernel by the slow reference rules: what engines are compared with. */
export function createReferenceEngine(): Engine {
  return {
    name: "reference",
    routines: referenceRoutines,
    newArena: createSharedArena,
    compile(source, fixed = {}) {
      const copies = Object.entries(fixed).map(([name, weight]) => [name, copyOf(weight)] as const);
      const kernel = fixParameters(source, Object.fromEntries(copies));
      const signature = new Signature(kernel);
      return {
        run(bindings) {
          if (signature.check(bindings)) return signature.zeroOutputs(bindings);
          const results = evaluate(kernel, bindings, "f32");
          for (const [name, values] of Object.entries(results)) bindings[name].data.set(values.data);
        },
      };
    },
    dispose: () => undefined,
  };
}
