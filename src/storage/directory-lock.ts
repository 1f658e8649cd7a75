/** One writer per directory: a lock that says who holds it, and is found to be stale when its holder is gone. */
import { randomUUID } from "node:crypto";
import { existsSync, linkSync, readFileSync, renameSync, rmdirSync, statSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { diskError, makeDirectory, removeQuietly, withFile, writeDurably } from "./files.js";
import { type ProcessIdentity, hasEnded, thisProcess } from "./process-identity.js";

const NAME = "lock.json";
/** The holder shows that it lives by writing the file anew. */
const HEARTBEAT_MS = 10_000;
/** Silence after which a holder whose processes cannot be seen from here counts as gone. */
const SILENCE_MS = 300_000;

/** Who holds a lock. */
export interface Holder extends ProcessIdentity {
  readonly since: string;
  readonly token: string;
}

export interface DirectoryLock {
  /** Idempotent; a directory that was made for the lock and holds nothing else goes, too. */
  release(): void;
}

/**
 * Locks a directory, which is made if it is not there, until `release`. The event loop must turn now and then, so that
 * processes on other hosts see that the holder lives.
 * @throws InputError naming the holder when another process, or another call of this one, has it; EnvironmentError
 */
export function lockDirectory(directory: string): DirectoryLock {
  const made = missingPart(directory);
  makeDirectory(directory);
  const file = join(directory, NAME);
  const holder: Holder = { ...thisProcess(), since: new Date().toISOString(), token: randomUUID() };
  acquire(directory, file, holder);
  const beat = setInterval(() => {
    if (readHolder(file)?.token === holder.token) touch(file);
  }, HEARTBEAT_MS);
  beat.unref();
  return {
    release() {
      clearInterval(beat);
      if (readHolder(file)?.token === holder.token) removeQuietly(file);
      if (made !== undefined) removeEmpty(directory, made);
    },
  };
}

function acquire(directory: string, file: string, holder: Holder): void {
  const own = `${file}.${holder.token}.tmp`;
  try {
    write(own, holder);
    while (!link(own, file)) {
      const found = readHolder(file);
      if (found !== undefined && !isGone(found, { silenceMs: silenceOf(file, own) }))
        throw new InputError(
          `${directory} is in use: process ${found.pid} on ${found.host} writes there since ${found.since}; wait for it, or stop it (if it is gone, ${file} may be removed)`,
        );
      breakLock(file, found);
    }
  } finally {
    removeQuietly(own);
  }
}

/** Complete or not at all, and only where there is none: also on a shared file system. @returns whether it was made */
function link(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw diskError(error, to);
  }
}

/** Moves a stale lock out of the way; one that another process has put there in the meantime is put back. */
function breakLock(file: string, stale: Holder | undefined): void {
  const aside = `${file}.${randomUUID()}.tmp`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw diskError(error, file);
  }
  const moved = readHolder(aside);
  if (moved !== undefined && moved.token !== stale?.token) link(aside, file);
  removeQuietly(aside);
}

/**
 * Whether a holder has ended: it is not among the processes of this machine, or its machine cannot be seen from here and
 * it has been silent.
 */
export function isGone(
  holder: Holder,
  { silenceMs, here = thisProcess() }: { readonly silenceMs: number; readonly here?: ProcessIdentity },
): boolean {
  if (holder.machine !== here.machine) return silenceMs > SILENCE_MS;
  return hasEnded(holder);
}

/** By the clock of the file system, which has just written the second file. */
function silenceOf(file: string, justWritten: string): number {
  try {
    return statSync(justWritten).mtimeMs - statSync(file).mtimeMs;
  } catch {
    return 0;
  }
}

/** Undefined when there is none, or it is damaged: nobody can hold that. */
function readHolder(file: string): Holder | undefined {
  try {
    const holder = JSON.parse(readFileSync(file, "utf8")) as Holder | null;
    return typeof holder?.token === "string" && Number.isInteger(holder.pid) ? holder : undefined;
  } catch {
    return undefined;
  }
}

/** Writes a byte as it was: the file system's clock gives the time. What fails now will be tried again. */
function touch(file: string): void {
  try {
    withFile(file, "r+", (opened) => void writeSync(opened, "{", 0));
  } catch {
    // A disk that fails ends the run elsewhere.
  }
}

function write(file: string, holder: Holder): void {
  writeDurably(file, [new TextEncoder().encode(`${JSON.stringify(holder)}\n`)]);
}

/** The topmost part of a path that is not there. */
function missingPart(path: string): string | undefined {
  if (existsSync(path)) return undefined;
  const parent = dirname(path);
  return parent === path ? path : (missingPart(parent) ?? path);
}

function removeEmpty(path: string, upTo: string): void {
  try {
    rmdirSync(path);
    if (path !== upTo) removeEmpty(dirname(path), upTo);
  } catch {
    // Something has been written there: it stays.
  }
}
