/** Durable writing: temporary name, fsync, rename; digests computed on the way. */
import { createHash } from "node:crypto";
import {
  type Stats,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { EnvironmentError, InputError } from "../core/errors.js";

export interface WrittenFile {
  readonly bytes: number;
  readonly sha256: string;
}

/** Opens a file for as long as it is used. */
export function withFile(path: string, flags: "r" | "r+" | "w" | "a", use: (file: number) => void): void {
  const file = openSync(path, flags);
  try {
    use(file);
  } finally {
    if (flags === "r") closeRead(file);
    else closeSync(file);
  }
}

/** Does something that changes `path`. @throws EnvironmentError in one line when the system refuses */
export function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw diskError(error, path);
  }
}

/** Does something that reads `path`. @throws InputError in one line when the system refuses, EnvironmentError when the disk fails */
export function reading<T>(path: string, read: () => T, what = ""): T {
  try {
    return read();
  } catch (error) {
    if (!isOfSystem(error)) throw error;
    const line = `Cannot read ${what === "" ? "" : `${what} `}${path}: ${explain(error)}`;
    throw (error as NodeJS.ErrnoException).code === "EIO" ? new EnvironmentError(line) : new InputError(line);
  }
}

/** Closes a file that was only read: nothing is lost where that fails. */
export function closeRead(file: number): void {
  try {
    closeSync(file);
  } catch {
    // What was read was read.
  }
}

/** @throws EnvironmentError in one line when the disk is full or not writable */
export function writeDurably(path: string, pieces: Iterable<Uint8Array>): WrittenFile {
  const hash = createHash("sha256");
  let bytes = 0;
  writing(path, () =>
    withFile(path, "w", (file) => {
      for (const piece of pieces) {
        hash.update(piece);
        writeAll(file, piece);
        bytes += piece.length;
      }
      fsyncSync(file);
    }),
  );
  return { bytes, sha256: hash.digest("hex") };
}

export function writeJsonDurably(path: string, value: unknown): WrittenFile {
  return writeDurably(path, [new TextEncoder().encode(`${JSON.stringify(value, undefined, 2)}\n`)]);
}

/** Replaces a file in one step: readers see the old content or the new. @throws EnvironmentError */
export function replaceFile(path: string, content: string | Iterable<Uint8Array>): void {
  const temporary = `${path}.tmp`;
  try {
    writeDurably(temporary, typeof content === "string" ? [new TextEncoder().encode(content)] : content);
    writing(path, () => renameSync(temporary, path));
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  }
}

/** Appends; a reader may see a last line cut short, never a changed one. @throws EnvironmentError */
export function appendBytes(path: string, bytes: Uint8Array): void {
  writing(path, () => withFile(path, "a", (file) => writeAll(file, bytes)));
}

/** Writes at the file's position; the system may write a part and say so. */
export function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes.subarray(at));
}

/** Whether there is something of this name. (Node's own says no where the disk fails.) @throws InputError, EnvironmentError */
export function exists(path: string): boolean {
  return statusOf(path) !== undefined;
}

/** @throws InputError, EnvironmentError */
export function isDirectory(path: string): boolean {
  return statusOf(path)?.isDirectory() ?? false;
}

/** Bytes of a file; undefined when there is none. @throws InputError, EnvironmentError */
export function fileSize(path: string): number | undefined {
  return statusOf(path)?.size;
}

function statusOf(path: string): Stats | undefined {
  return reading(path, () => {
    try {
      return statSync(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ENOTDIR") return undefined;
      throw error;
    }
  });
}

/**
 * Makes a directory and those above it. (Node's recursive mkdir never returns where the system refuses with ENOENT, as in /proc.)
 * @throws EnvironmentError in one line when it is not possible
 */
export function makeDirectory(path: string): void {
  if (isDirectory(path)) return;
  const parent = dirname(path);
  if (parent !== path && !exists(parent)) makeDirectory(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    // Another rank may have made it in the meantime.
    if (!isDirectory(path)) throw diskError(error, path);
  }
}

/** Removes a file or a directory with all that is in it; it may be missing. @throws EnvironmentError */
export function remove(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    throw new EnvironmentError(`Cannot remove ${path}: ${explain(error)}`);
  }
}

/** `remove` after a failure, which is the one to tell. */
export function removeQuietly(path: string): void {
  try {
    remove(path);
  } catch {
    // What is left has a temporary name.
  }
}

/** Names in a directory. @throws InputError, EnvironmentError */
export function listDirectory(path: string): string[] {
  return reading(path, () => readdirSync(path));
}

/** A text file that a user named. @param what what it is, for the message @throws InputError, EnvironmentError in one line */
export function readText(path: string, what: string): string {
  return reading(path, () => readFileSync(path, "utf8"), what);
}

/** Bytes [start, start + length) of an open file; fewer where it ends before. */
export function readAt(file: number, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const got = readInto(file, bytes, start);
  return got === length ? bytes : bytes.subarray(0, got);
}

/** The most that the system reads in one call. */
const READ_BYTES = 1 << 30;

/** Bytes of an open file from `start` on into `bytes`. @returns how many: fewer where the file ends before */
export function readInto(file: number, bytes: Uint8Array, start: number): number {
  let at = 0;
  for (let got = 1; at < bytes.length && got > 0; at += got)
    got = readSync(file, bytes, at, Math.min(READ_BYTES, bytes.length - at), start + at);
  return at;
}

export function syncDirectory(path: string): void {
  withFile(path, "r", fsyncSync);
}

export function sha256OfFile(path: string): string {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(1 << 22);
  withFile(path, "r", (file) => {
    for (let got = 0; (got = readSync(file, buffer)) > 0;) hash.update(buffer.subarray(0, got));
  });
  return hash.digest("hex");
}

export function diskError(error: unknown, path: string): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOSPC" || code === "EDQUOT")
    return new EnvironmentError(`Cannot write ${path}: the disk is full; free some space`);
  if (isOfSystem(error)) return new EnvironmentError(`Cannot write ${path}: ${explain(error)}`);
  return error as Error;
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist",
  EISDIR: "it is a directory, wanted a file",
  ENOTDIR: "a part of the path is a file, wanted a directory",
  EEXIST: "a file is there, wanted a directory",
  EIO: "the disk failed (EIO)",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  ERR_INVALID_ARG_VALUE: "this is no path",
  ERR_FS_FILE_TOO_LARGE: "a single file is limited to 512 MB of text; split it into several",
  ERR_STRING_TOO_LONG: "a single file is limited to 512 MB of text; split it into several",
};

/** Whether the system refused; anything else is an error of ours. */
function isOfSystem(error: unknown): boolean {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code !== undefined && (syscall !== undefined || code in REASONS);
}

/** Why the system refused, in words. */
export function explain(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return (code === undefined ? undefined : REASONS[code]) ?? code ?? message.split("\n")[0];
}
