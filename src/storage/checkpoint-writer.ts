/** Writes a checkpoint: shards and facts into a temporary directory, which then takes its final name complete or not at all. */
import { renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import {
  type ShardKind,
  listCheckpoints,
  shardName,
  stepOf,
  temporaryDirectory,
} from "./checkpoint-names.js";
import {
  type WrittenFile,
  exists,
  listDirectory,
  makeDirectory,
  readText,
  remove,
  removeQuietly,
  replaceFile,
  syncDirectory,
  writeDurably,
  writeJsonDurably,
  writing,
} from "./files.js";
import { type TensorToStore, safetensorsBytes } from "./safetensors.js";

export interface WrittenShard extends WrittenFile {
  readonly kind: ShardKind;
  readonly file: string;
  readonly tensors: readonly { name: string; bytes: number }[];
}

/** Starts a checkpoint: an empty temporary directory beside the final one. @throws EnvironmentError */
export function beginCheckpoint(directory: string): void {
  const temporary = temporaryDirectory(directory);
  remove(temporary);
  makeDirectory(temporary);
}

/**
 * Removes what a crash left half-written, or half-removed, beside the checkpoints, and lets `latest` name the newest.
 * @throws EnvironmentError
 */
export function removeUnfinished(parent: string): void {
  if (!exists(parent)) return;
  for (const name of listDirectory(parent)) if (name.endsWith(".tmp")) remove(join(parent, name));
  pointToNewest(parent);
}

export function writeShard(
  directory: string,
  shard: { kind: ShardKind; rank: number; ranks: number; tensors: readonly TensorToStore[] },
): WrittenShard {
  const file = shardName(shard.kind, shard.rank, shard.ranks);
  const written = writeDurably(join(temporaryDirectory(directory), file), safetensorsBytes(shard.tensors));
  const tensors = shard.tensors.map(({ name, data }) => ({ name, bytes: data.byteLength }));
  return { ...written, kind: shard.kind, file, tensors };
}

export interface CheckpointFacts {
  readonly config: unknown;
  readonly trainerState: unknown;
  /** Content of the tokenizer's files, by name. */
  readonly tokenizer?: ReadonlyMap<string, string>;
}

/** Writes indices and digests, then makes the checkpoint visible under its final name and as `latest`. */
export function commitCheckpoint(
  directory: string,
  shards: readonly WrittenShard[],
  facts: CheckpointFacts,
  options: { keep: number },
): void {
  const temporary = temporaryDirectory(directory);
  const digests: Record<string, WrittenFile> = {};
  const json = (file: string, value: unknown) => {
    digests[file] = writeJsonDurably(join(temporary, file), value);
  };
  for (const { file, bytes, sha256 } of shards) digests[file] = { bytes, sha256 };
  for (const kind of ["model", "optimizer"] as const) {
    const mine = shards.filter((s) => s.kind === kind);
    if (mine.length < 2) continue;
    const weightMap = Object.fromEntries(mine.flatMap((s) => s.tensors.map((t) => [t.name, s.file])));
    const totalSize = mine.reduce((sum, s) => sum + s.tensors.reduce((a, t) => a + t.bytes, 0), 0);
    json(`${kind}.safetensors.index.json`, { metadata: { total_size: totalSize }, weight_map: weightMap });
  }
  json("config.json", facts.config);
  json("trainer_state.json", facts.trainerState);
  for (const [name, text] of facts.tokenizer ?? [])
    digests[name] = writeDurably(join(temporary, name), [new TextEncoder().encode(text)]);
  writeJsonDurably(join(temporary, "digests.json"), digests);
  const parent = dirname(directory);
  // What has this name, or a later one, is of a past that was gone back from.
  setAsideLater(parent, (stepOf(basename(directory)) ?? 0) - 1);
  writing(directory, () => {
    syncDirectory(temporary);
    renameSync(temporary, directory);
    syncDirectory(parent);
  });
  pointToNewest(parent);
  rotate(parent, options.keep);
}

/** Removes a checkpoint that could not be finished; what cannot be removed goes with the next `removeUnfinished`. */
export function abandonCheckpoint(directory: string): void {
  removeQuietly(temporaryDirectory(directory));
}

/**
 * Sets aside the checkpoints after `step`, before a run goes on from it on another way: they move to `abandoned-N` beside
 * the others, and the newest is then that of `step`. Nothing is deleted. Killed on the way, the newest is still what it was, since it
 * moves last; to call it again moves the rest. To be called before anything else of the run is changed.
 * @param parent the directory `checkpoints` of a run
 * @returns where they are now
 * @throws EnvironmentError
 */
export function setAsideLater(parent: string, step: number): string[] {
  const later = listCheckpoints(parent).filter((name) => (stepOf(name) ?? 0) > step);
  if (later.length === 0) return [];
  const taken = listDirectory(parent).map((name) => Number(/^abandoned-(\d+)$/.exec(name)?.[1] ?? 0));
  const aside = join(parent, `abandoned-${Math.max(...taken) + 1}`);
  makeDirectory(aside);
  writing(aside, () => {
    for (const name of later) renameSync(join(parent, name), join(aside, name));
    syncDirectory(aside);
    syncDirectory(parent);
  });
  pointToNewest(parent);
  return later.map((name) => join(aside, name));
}

/** Writes `latest`, which people read. */
function pointToNewest(parent: string): void {
  const newest = listCheckpoints(parent).at(-1);
  const file = join(parent, "latest");
  if (newest === undefined || (exists(file) && readText(file, "the pointer") === `${newest}\n`)) return;
  replaceFile(file, `${newest}\n`);
}

/**
 * Keeps the newest. One that goes loses its name first: half a checkpoint never has one.
 * @param parent the directory `checkpoints` of a run
 * @throws EnvironmentError
 */
export function rotate(parent: string, keep: number): void {
  const all = listCheckpoints(parent);
  for (const name of all.slice(0, Math.max(0, all.length - keep))) {
    const path = join(parent, name);
    writing(path, () => renameSync(path, temporaryDirectory(path)));
    remove(temporaryDirectory(path));
  }
}
