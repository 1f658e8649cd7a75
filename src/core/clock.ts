/** Milliseconds on CLOCK_MONOTONIC: one time base for every thread of a machine, JavaScript or native. */
export function nowMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}
