/**
 * Where things are in a checkpoint directory: config.json, model*.safetensors and optimizer*.safetensors with their indices,
 * trainer_state.json, tokenizer.json, digests.json. Which file holds a tensor depends on how many ranks wrote it; what a
 * reader sees does not.
 */
import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { exists, isDirectory, listDirectory } from "./files.js";

export type ShardKind = "model" | "optimizer";

/** Hugging Face's names: one file without numbers, or one per rank. */
export function shardName(kind: ShardKind, rank: number, ranks: number): string {
  if (ranks === 1) return `${kind}.safetensors`;
  const number = (n: number) => String(n).padStart(5, "0");
  return `${kind}-${number(rank + 1)}-of-${number(ranks)}.safetensors`;
}

export function temporaryDirectory(directory: string): string {
  return `${directory}.tmp`;
}

/** Whether a name in an index or list stays in its folder, on any system. */
export function isPlainName(name: string): boolean {
  return !["", ".", ".."].includes(name) && !/[/\\\0]/.test(name);
}

/** Steps done, by a checkpoint's name; undefined for any other name. */
export function stepOf(name: string): number | undefined {
  const digits = /^step-(\d+)$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Names of the checkpoints in a directory, oldest first. A file is no checkpoint, whatever its name. */
export function listCheckpoints(parent: string): string[] {
  if (!isDirectory(parent)) return [];
  return listDirectory(parent)
    .map((name) => ({ name, step: stepOf(name) }))
    .filter(({ name, step }) => step !== undefined && isDirectory(join(parent, name)))
    .sort((a, b) => (a.step ?? 0) - (b.step ?? 0))
    .map(({ name }) => name);
}

/**
 * The newest checkpoint of a run directory, or the directory itself if it is one (ours, or a Hugging Face folder).
 *
 * The newest is the one of the most steps: a checkpoint has its name only when complete, and what a run went back from is
 * set aside before it goes on (`setAsideLater`). The file `latest` is for people: it names the same, unless the run was
 * killed between the two.
 * @throws InputError when there is none
 */
export function findCheckpoint(path: string): string {
  const found = newestCheckpoint(path);
  if (found !== undefined) return found;
  throw new InputError(
    `${path} holds no checkpoint: neither config.json nor checkpoints/step-* is there${exists(join(path, "run.json")) ? " (the run stopped before its first)" : ""}`,
  );
}

/** As `findCheckpoint`; undefined when there is none. */
export function newestCheckpoint(path: string): string | undefined {
  if (exists(join(path, "config.json"))) return path;
  const parent = exists(join(path, "checkpoints")) ? join(path, "checkpoints") : path;
  const name = listCheckpoints(parent).at(-1);
  return name === undefined ? undefined : join(parent, name);
}

/** What a run that cannot go on has saved, for the end of a message. @param parent its directory `checkpoints` */
export function whatIsSaved(parent: string): string {
  const newest = listCheckpoints(parent).at(-1);
  return newest === undefined
    ? "nothing had been saved yet"
    : `scmoe train --resume ${dirname(parent)} goes on after step ${stepOf(newest)}`;
}
