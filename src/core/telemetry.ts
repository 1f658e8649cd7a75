/**
 * onnxruntime 1.30 sends usage data to its maker from a thread of its own. Nobody asked scmoe for that; and where names
 * do not resolve, that thread deadlocks with the library's unloading when a rank's thread ends (it waits for the loader's
 * lock, which the unloading thread holds while it joins it).
 *
 * Call on the main thread before the library is loaded anywhere: a worker's `process.env` is a copy that C code does not see.
 */
export function refuseTelemetry(): void {
  process.env.ORT_DISABLE_TELEMETRY ??= "1";
}
