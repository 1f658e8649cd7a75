/**
 * Where things are in a checkpoint directory: config.json, model*.safetensors and optimizer*.safetensors with their indices,
 * trainer_state.json, tokenizer.json, digests.json. Which file holds a tensor depends on how many ranks wrote it; what a
 * reader sees does not.
 */
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../core/errors.js";

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

/** Names of the checkpoints in a directory, oldest first. */
export function listCheckpoints(parent: string): string[] {
  if (!existsSync(parent) || !statSync(parent).isDirectory()) return [];
  return readdirSync(parent)
    .filter((name) => /^step-\d+$/.test(name))
    .sort();
}

/**
 * The newest checkpoint of a run directory, or the directory itself if it is one (ours, or a Hugging Face folder). Where the
 * pointer `latest` is missing or points nowhere, the newest complete checkpoint is taken: one has its name only when complete.
 * @throws InputError when there is none
 */
export function findCheckpoint(path: string): string {
  const found = newestCheckpoint(path);
  if (found !== undefined) return found;
  throw new InputError(
    `${path} holds no checkpoint: neither config.json nor checkpoints/step-* is there${existsSync(join(path, "run.json")) ? " (the run stopped before its first)" : ""}`,
  );
}

export function newestCheckpoint(path: string): string | undefined {
  if (existsSync(join(path, "config.json"))) return path;
  const parent = existsSync(join(path, "checkpoints")) ? join(path, "checkpoints") : path;
  const pointer = join(parent, "latest");
  const named = existsSync(pointer) ? [readFileSync(pointer, "utf8").trim()] : [];
  const name = [...named, ...listCheckpoints(parent).reverse()].find(
    (name) => name !== "" && existsSync(join(parent, name)),
  );
  return name === undefined ? undefined : join(parent, name);
}
