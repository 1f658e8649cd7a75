/** Leaving at once. */
import { libc } from "./libc.js";

/**
 * Ends this process now. `process.exit` waits for threads that are within native code: a kernel, or a wait for another
 * rank, which may take until the deadline.
 */
export function exitAtOnce(code: number): never {
  try {
    (libc().func("void _exit(int code)") as (code: number) => void)(code);
  } catch {
    // No C library under that name: the slow way out.
  }
  process.exit(code);
}
