/**
 * Writes down now and then what every thread of this process holds: by `node --import`, with a file in the environment variable
 * SAMPLES. A rank's loop turns once a step, always at the same place, so that its samples are of the same instant.
 */
import { appendFileSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import process from "node:process";
import { threadId } from "node:worker_threads";

const PERIOD_MS = 2_000;
const file = process.env.SAMPLES ?? "samples.jsonl";
const FILES = "/proc/self/fd";

/**
 * Whether an open file is the run's own: threads that take their samples at the same instant have each other's files open. One that is
 * closed in the meantime is nobody's.
 * @type {(descriptor: string) => boolean}
 */
function isOfTheRun(descriptor) {
  try {
    const target = readlinkSync(`${FILES}/${descriptor}`);
    return !target.startsWith("/proc/") && target !== file;
  } catch {
    return false;
  }
}

setInterval(() => {
  const status = readFileSync("/proc/self/status", "utf8");
  /** @type {(key: string) => number} */
  const figure = (key) => Number(new RegExp(`^${key}:\\s*(\\d+)`, "m").exec(status)?.[1]);
  const sample = {
    thread: threadId,
    ms: Date.now(),
    // Without pages of files, such as the program's own: the system takes and gives those as it likes.
    residentBytes: (figure("RssAnon") + figure("RssShmem")) * 1024,
    files: readdirSync(FILES).filter(isOfTheRun).length,
    threads: figure("Threads"),
    handles: process.getActiveResourcesInfo().length,
    heapBytes: process.memoryUsage().heapUsed,
  };
  appendFileSync(file, `${JSON.stringify(sample)}\n`);
}, PERIOD_MS).unref();
