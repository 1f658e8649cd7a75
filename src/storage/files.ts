/** Durable writing: temporary name, fsync, rename; digests computed on the way. */
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
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

/** The one place that writes; tests put a failing disk here. */
export interface Disk {
  write(file: number, bytes: Uint8Array): number;
}

export const realDisk: Disk = { write: (file, bytes) => writeSync(file, bytes) };

/** Opens a file for as long as it is used. */
export function withFile(path: string, flags: "r" | "r+" | "w" | "a", use: (file: number) => void): void {
  const file = openSync(path, flags);
  try {
    use(file);
  } finally {
    closeSync(file);
  }
}

/** @throws EnvironmentError in one line when the disk is full or not writable */
export function writeDurably(path: string, pieces: Iterable<Uint8Array>, disk: Disk = realDisk): WrittenFile {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    withFile(path, "w", (file) => {
      for (const piece of pieces) {
        hash.update(piece);
        for (let at = 0; at < piece.length;) at += disk.write(file, piece.subarray(at));
        bytes += piece.length;
      }
      fsyncSync(file);
    });
  } catch (error) {
    throw diskError(error, path);
  }
  return { bytes, sha256: hash.digest("hex") };
}

export function writeJsonDurably(path: string, value: unknown, disk?: Disk): WrittenFile {
  return writeDurably(path, [new TextEncoder().encode(`${JSON.stringify(value, undefined, 2)}\n`)], disk);
}

/** Replaces a small file in one step: readers see the old content or the new. @throws EnvironmentError */
export function replaceFile(path: string, text: string, disk?: Disk): void {
  const temporary = `${path}.tmp`;
  writeDurably(temporary, [new TextEncoder().encode(text)], disk);
  try {
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw diskError(error, path);
  }
}

/** Appends; a reader may see a last line cut short, never a changed one. @throws EnvironmentError */
export function appendBytes(path: string, bytes: Uint8Array, disk: Disk = realDisk): void {
  try {
    withFile(path, "a", (file) => {
      for (let at = 0; at < bytes.length;) at += disk.write(file, bytes.subarray(at));
    });
  } catch (error) {
    throw diskError(error, path);
  }
}

/**
 * Makes a directory and those above it. (Node's recursive mkdir never returns where the system refuses with ENOENT, as in /proc.)
 * @throws EnvironmentError in one line when it is not possible
 */
export function makeDirectory(path: string): void {
  if (existsSync(path) && statSync(path).isDirectory()) return;
  const parent = dirname(path);
  if (parent !== path && !existsSync(parent)) makeDirectory(parent);
  try {
    mkdirSync(path);
  } catch (error) {
    // Another rank may have made it in the meantime.
    if (existsSync(path) && statSync(path).isDirectory()) return;
    throw diskError(error, path);
  }
}

/** Removes a directory, or file, with all that is in it; it may be missing. @throws EnvironmentError */
export function removeDirectory(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    throw new EnvironmentError(`Cannot remove ${path}: ${explain(error)}`);
  }
}

/** A text file that a user named. @param what what it is, for the message @throws InputError in one line */
export function readText(path: string, what: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new InputError(`Cannot read ${what} ${path}: ${explain(error)}`);
  }
}

/** Bytes [start, start + length) of an open file; fewer where it ends before. */
export function readAt(file: number, start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (let got = 1; at < length && got > 0; at += got)
    got = readSync(file, bytes, at, length - at, start + at);
  return at === length ? bytes : bytes.subarray(0, at);
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
  if (code !== undefined && code.startsWith("E"))
    return new EnvironmentError(`Cannot write ${path}: ${explain(error)}`);
  return error as Error;
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist",
  EISDIR: "it is a directory, wanted a file",
  ENOTDIR: "a part of the path is a file, wanted a directory",
  EEXIST: "a file is there, wanted a directory",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  ERR_FS_FILE_TOO_LARGE: "a single file is limited to 512 MB of text; split it into several",
  ERR_STRING_TOO_LONG: "a single file is limited to 512 MB of text; split it into several",
};

/** Why the system refused, in words. */
export function explain(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return (code === undefined ? undefined : REASONS[code]) ?? code ?? message.split("\n")[0];
}
