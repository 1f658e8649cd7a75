/** One writer per directory: a lock that says who holds it, and is found to be stale when its holder is gone. */
import { randomUUID } from "node:crypto";
import {
  existsSync,
  linkSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { diskError, makeDirectory, removeQuietly, withFile, writeDurably } from "./files.js";

const NAME = "lock.json";
/** The holder shows that it lives by writing the file anew. */
const HEARTBEAT_MS = 10_000;
/** Silence after which a holder whose processes cannot be seen from here counts as gone. */
const SILENCE_MS = 300_000;

/** A process, and where its number means something. */
export interface Holder {
  readonly host: string;
  readonly pid: number;
  /** Start time of the process as the system counts it: a number may be given again. Empty where it is not known. */
  readonly processStart: string;
  /** Of the kernel and its process numbers: two processes see each other when it is equal. */
  readonly machine: string;
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
  {
    silenceMs,
    here = thisProcess(),
  }: { readonly silenceMs: number; readonly here?: Omit<Holder, "since" | "token"> },
): boolean {
  if (holder.machine !== here.machine) return silenceMs > SILENCE_MS;
  const start = startOf(holder.pid);
  return start === undefined || (holder.processStart !== "" && start !== holder.processStart);
}

function thisProcess(): Omit<Holder, "since" | "token"> {
  const { pid } = process;
  return { host: hostname(), pid, processStart: startOf(pid) ?? "", machine: machineId() };
}

/** The kernel's boot and the namespace of its process numbers; elsewhere than on Linux the host's name. */
function machineId(): string {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

/** When a process started, in the system's own count; empty where that is not known, undefined when there is none. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold anything; 20 fields follow up to the start time. A zombie has ended.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    if (existsSync("/proc/self/stat")) return undefined;
  }
  try {
    process.kill(pid, 0);
    return "";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" ? "" : undefined;
  }
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
