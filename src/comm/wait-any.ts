import type { Handle } from "./communicator.js";

const pillow = new Int32Array(new SharedArrayBuffer(4));

/** Waits for whichever arrives first. @returns its index */
export function waitAny(handles: readonly Handle<unknown>[], deadlineMs: number): number {
  if (handles.length === 1) {
    handles[0].wait();
    return 0;
  }
  const limit = performance.now() + deadlineMs;
  for (let pause = 0.02; ; pause = Math.min(0.2, pause * 1.5)) {
    const found = handles.findIndex((handle) => handle.done);
    if (found >= 0) return found;
    if (performance.now() > limit) handles[0].wait(0);
    Atomics.wait(pillow, 0, 0, pause);
  }
}
