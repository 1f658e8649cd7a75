import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collect: (() => void) | undefined;

/**
 * Collects this thread's garbage now. Left alone, V8 lets a small heap grow to several times what is alive, by tens of
 * megabytes per thread over thousands of steps: memory that looks like a leak, and that the model could have.
 */
export function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
  }
  collect();
}
