/** Durable writing: temporary name, fsync, rename; digests computed on the way. */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, readSync, renameSync, writeSync } from "node:fs";
import { EnvironmentError } from "../core/errors.js";

export interface WrittenFile {
  readonly bytes: number;
  readonly sha256: string;
}

/** The one place that writes; tests put a failing disk here. */
export interface Disk {
  write(file: number, bytes: Uint8Array): number;
}

export const realDisk: Disk = { write: (file, bytes) => writeSync(file, bytes) };

/** @throws EnvironmentError in one line when the disk is full or not writable */
export function writeDurably(path: string, pieces: Iterable<Uint8Array>, disk: Disk = realDisk): WrittenFile {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    const file = openSync(path, "w");
    try {
      for (const piece of pieces) {
        hash.update(piece);
        for (let at = 0; at < piece.length;) at += disk.write(file, piece.subarray(at));
        bytes += piece.length;
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw diskError(error, path);
  }
  return { bytes, sha256: hash.digest("hex") };
}

export function writeJsonDurably(path: string, value: unknown, disk?: Disk): WrittenFile {
  return writeDurably(path, [new TextEncoder().encode(`${JSON.stringify(value, undefined, 2)}\n`)], disk);
}

/** Replaces a small file in one step: readers see the old content or the new. */
export function replaceFile(path: string, text: string): void {
  const temporary = `${path}.tmp`;
  writeDurably(temporary, [new TextEncoder().encode(text)]);
  renameSync(temporary, path);
}

export function syncDirectory(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

export function sha256OfFile(path: string): string {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(1 << 22);
  const file = openSync(path, "r");
  try {
    for (let got = 0; (got = readSync(file, buffer)) > 0;) hash.update(buffer.subarray(0, got));
  } finally {
    closeSync(file);
  }
  return hash.digest("hex");
}

function diskError(error: unknown, path: string): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOSPC" || code === "EDQUOT")
    return new EnvironmentError(
      `Cannot write ${path}: the disk is full; free some space and resume (earlier checkpoints are intact)`,
    );
  if (code !== undefined && code.startsWith("E"))
    return new EnvironmentError(`Cannot write ${path}: ${code}`);
  return error as Error;
}
