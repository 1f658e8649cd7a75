/** Waiting for whichever of several exchanges ends first. */
import { nowMs } from "../core/clock.js";
import type { Handle } from "./communicator.js";

/** Sleeps between looks; shorter ones would take the processor from those who compute. */
const SHORTEST_SLEEP_MS = 0.02;
const LONGEST_SLEEP_MS = 0.2;

const pillow = new Int32Array(new SharedArrayBuffer(4));

/**
 * Waits, the thread asleep, until one of the exchanges has ended. They may belong to several communicators and
 * transports, whose ways of waking a thread cannot be combined, so each is asked in turn.
 * @param handles at least one; the oldest first, which is preferred when several have ended
 * @param deadlineMs of the whole call
 * @returns index of one whose `wait` returns at once
 * @throws CommError naming the ranks of the oldest that do not answer, after the deadline, and whatever `wait` of the
 *   only one throws
 */
export function waitAny(handles: readonly Handle<unknown>[], deadlineMs: number): number {
  const sinceMs = nowMs();
  for (let sleepMs = SHORTEST_SLEEP_MS; handles.length > 1;) {
    const index = handles.findIndex((handle) => handle.done);
    if (index >= 0) return index;
    if (nowMs() - sinceMs >= deadlineMs) break;
    Atomics.wait(pillow, 0, 0, sleepMs);
    sleepMs = Math.min(2 * sleepMs, LONGEST_SLEEP_MS);
  }
  handles[0].wait(deadlineMs, sinceMs);
  return 0;
}
