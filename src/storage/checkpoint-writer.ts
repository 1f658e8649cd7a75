/** Writes a checkpoint: shards and facts into a temporary directory, which then takes its final name complete or not at all. */
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type ShardKind, listCheckpoints, shardName, temporaryDirectory } from "./checkpoint-names.js";
import {
  type Disk,
  type WrittenFile,
  diskError,
  makeDirectory,
  replaceFile,
  syncDirectory,
  writeDurably,
  writeJsonDurably,
} from "./files.js";
import { type TensorToStore, safetensorsBytes } from "./safetensors.js";

export interface WrittenShard extends WrittenFile {
  readonly kind: ShardKind;
  readonly file: string;
  readonly tensors: readonly { name: string; bytes: number }[];
}

/** Starts a checkpoint: an empty temporary directory beside the final one. */
export function beginCheckpoint(directory: string): void {
  const temporary = temporaryDirectory(directory);
  rmSync(temporary, { recursive: true, force: true });
  makeDirectory(temporary);
}

/** Removes what a crash left half-written beside the checkpoints. */
export function removeUnfinished(parent: string): void {
  if (!existsSync(parent)) return;
  for (const name of readdirSync(parent))
    if (name.endsWith(".tmp")) rmSync(join(parent, name), { recursive: true, force: true });
}

export function writeShard(
  directory: string,
  shard: { kind: ShardKind; rank: number; ranks: number; tensors: readonly TensorToStore[] },
  disk?: Disk,
): WrittenShard {
  const file = shardName(shard.kind, shard.rank, shard.ranks);
  const written = writeDurably(
    join(temporaryDirectory(directory), file),
    safetensorsBytes(shard.tensors),
    disk,
  );
  const tensors = shard.tensors.map(({ name, data }) => ({ name, bytes: data.byteLength }));
  return { ...written, kind: shard.kind, file, tensors };
}

export interface CheckpointFacts {
  readonly config: unknown;
  readonly trainerState: unknown;
  /** Content of tokenizer.json. */
  readonly tokenizer?: string;
}

/** Writes indices and digests, then makes the checkpoint visible under its final name and as `latest`. */
export function commitCheckpoint(
  directory: string,
  shards: readonly WrittenShard[],
  facts: CheckpointFacts,
  options: { keep: number; disk?: Disk },
): void {
  const temporary = temporaryDirectory(directory);
  const digests: Record<string, WrittenFile> = {};
  const json = (file: string, value: unknown) => {
    digests[file] = writeJsonDurably(join(temporary, file), value, options.disk);
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
  if (facts.tokenizer !== undefined)
    digests["tokenizer.json"] = writeDurably(
      join(temporary, "tokenizer.json"),
      [new TextEncoder().encode(facts.tokenizer)],
      options.disk,
    );
  writeJsonDurably(join(temporary, "digests.json"), digests, options.disk);
  const parent = dirname(directory);
  try {
    syncDirectory(temporary);
    rmSync(directory, { recursive: true, force: true });
    renameSync(temporary, directory);
    syncDirectory(parent);
  } catch (error) {
    throw diskError(error, directory);
  }
  replaceFile(join(parent, "latest"), `${basename(directory)}\n`, options.disk);
  prune(parent, basename(directory), options.keep);
}

export function abandonCheckpoint(directory: string): void {
  rmSync(temporaryDirectory(directory), { recursive: true, force: true });
}

/** Keeps `current` and the newest before it. Later steps belong to a past that was resumed away from: they go first. */
function prune(parent: string, current: string, keep: number): void {
  const all = listCheckpoints(parent);
  const before = all.filter((name) => name < current);
  const kept = new Set([current, ...before.slice(Math.max(0, before.length - (keep - 1)))]);
  for (const name of all) if (!kept.has(name)) rmSync(join(parent, name), { recursive: true });
}
