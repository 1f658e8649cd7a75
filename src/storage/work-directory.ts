/** Directories in which something is made before it takes its name: whose maker is gone can be told by theirs. */
import { createHash } from "node:crypto";
import { mkdtempSync, statSync } from "node:fs";
import { join } from "node:path";
import { listDirectory, removeQuietly, writing } from "./files.js";
import { hasEnded, thisProcess } from "./process-identity.js";

/** What was left by a process that cannot be seen from here counts as abandoned after this time. */
const STALE_MS = 24 * 3600 * 1e3;
/** HASH.tmp-MACHINE_PID_START_RANDOM; of earlier versions without what tells the maker. */
const OF_HASH = /^[0-9a-f]{16}\.tmp-(?:(?<machine>[0-9a-f]{8})_(?<pid>\d+)_(?<start>\d*)_)?\w{6}$/;
/** The same after a name that a user chose. */
const AFTER_NAME = /^\.tmp-(?<machine>[0-9a-f]{8})_(?<pid>\d+)_(?<start>\d*)_\w{6}$/;

/** Makes an empty directory beside `target`; every caller has its own. @throws EnvironmentError */
export function makeWorkDirectory(target: string): string {
  const { pid, processStart } = thisProcess();
  return writing(target, () => mkdtempSync(`${target}.tmp-${machineMark()}_${pid}_${processStart}_`));
}

/**
 * Removes the work directories in `parent` whose makers are gone, as far as that is allowed.
 * @param target only those made for this name; default: for any hash
 * @throws EnvironmentError
 */
export function removeAbandoned(parent: string, target?: string): void {
  for (const name of listDirectory(parent)) {
    const made =
      target === undefined
        ? OF_HASH.exec(name)
        : name.startsWith(target)
          ? AFTER_NAME.exec(name.slice(target.length))
          : null;
    const path = join(parent, name);
    if (made !== null && isAbandoned(path, made.groups ?? {})) removeQuietly(path);
  }
}

function isAbandoned(path: string, { machine, pid, start }: Record<string, string | undefined>): boolean {
  if (machine === machineMark()) return hasEnded({ pid: Number(pid), processStart: start ?? "" });
  try {
    return Date.now() - statSync(path).mtimeMs > STALE_MS;
  } catch {
    // Its maker has finished with it at this very moment.
    return false;
  }
}

function machineMark(): string {
  return createHash("sha256").update(thisProcess().machine).digest("hex").slice(0, 8);
}
