/**
 * A checkpoint directory: config.json, model*.safetensors and optimizer*.safetensors with their indices, trainer_state.json,
 * tokenizer.json, digests.json. Which file holds a tensor depends on how many ranks wrote it; what a reader sees does not.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import {
  type Disk,
  type WrittenFile,
  replaceFile,
  sha256OfFile,
  syncDirectory,
  writeDurably,
  writeJsonDurably,
} from "./files.js";
import { SafetensorsReader, type TensorToStore, safetensorsBytes } from "./safetensors.js";

export type ShardKind = "model" | "optimizer";

export interface WrittenShard extends WrittenFile {
  readonly kind: ShardKind;
  readonly file: string;
  readonly tensors: readonly { name: string; bytes: number }[];
}

/** Hugging Face's names: one file without numbers, or one per rank. */
function shardName(kind: ShardKind, rank: number, ranks: number): string {
  if (ranks === 1) return `${kind}.safetensors`;
  const number = (n: number) => String(n).padStart(5, "0");
  return `${kind}-${number(rank + 1)}-of-${number(ranks)}.safetensors`;
}

export function temporaryDirectory(directory: string): string {
  return `${directory}.tmp`;
}

/** Starts a checkpoint: an empty temporary directory beside the final one. */
export function beginCheckpoint(directory: string): void {
  const temporary = temporaryDirectory(directory);
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
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
  syncDirectory(temporary);
  rmSync(directory, { recursive: true, force: true });
  renameSync(temporary, directory);
  const parent = dirname(directory);
  syncDirectory(parent);
  replaceFile(join(parent, "latest"), `${basename(directory)}\n`);
  prune(parent, options.keep);
}

export function abandonCheckpoint(directory: string): void {
  rmSync(temporaryDirectory(directory), { recursive: true, force: true });
}

function prune(parent: string, keep: number): void {
  const all = readdirSync(parent)
    .filter((name) => /^step-\d+$/.test(name))
    .sort();
  for (const name of all.slice(0, Math.max(0, all.length - keep)))
    rmSync(join(parent, name), { recursive: true });
}

/**
 * The newest checkpoint of a run directory, or the directory itself if it is one (ours, or a Hugging Face folder).
 * @throws InputError when there is none
 */
export function findCheckpoint(path: string): string {
  if (existsSync(join(path, "config.json"))) return path;
  const parent = existsSync(join(path, "checkpoints")) ? join(path, "checkpoints") : path;
  const pointer = join(parent, "latest");
  if (existsSync(pointer)) {
    const directory = join(parent, readFileSync(pointer, "utf8").trim());
    if (existsSync(join(directory, "config.json"))) return directory;
  }
  throw new InputError(`${path} holds no checkpoint: neither config.json nor checkpoints/latest is there`);
}

export class CheckpointReader {
  readonly #files = new Map<string, SafetensorsReader>();
  readonly #where: Record<ShardKind, Map<string, string>> = { model: new Map(), optimizer: new Map() };

  /** @throws InputError when a file is missing or its size is not what it was when written */
  constructor(readonly directory: string) {
    this.#checkSizes();
    for (const kind of ["model", "optimizer"] as const) this.#index(kind);
  }

  names(kind: ShardKind): readonly string[] {
    return [...this.#where[kind].keys()];
  }

  dims(kind: ShardKind, name: string): readonly number[] {
    return this.#reader(kind, name).info(name).dims;
  }

  has(kind: ShardKind, name: string): boolean {
    return this.#where[kind].has(name);
  }

  /** Elements [from, from + out.length) of a tensor. */
  readInto(kind: ShardKind, name: string, out: Float32Array, from = 0): void {
    this.#reader(kind, name).readInto(name, out, from);
  }

  /**
   * Elements of a tensor that ZeRO ranks may have stored in pieces, named "<name>@<start>-<end>".
   * @throws InputError when elements are missing
   */
  readPiecesInto(kind: ShardKind, name: string, out: Float32Array, from: number): void {
    if (this.has(kind, name)) return this.readInto(kind, name, out, from);
    let covered = 0;
    for (const piece of this.#where[kind].keys()) {
      if (!piece.startsWith(`${name}@`)) continue;
      const [start, end] = piece
        .slice(name.length + 1)
        .split("-")
        .map(Number);
      const low = Math.max(start, from);
      const high = Math.min(end, from + out.length);
      if (low >= high) continue;
      this.readInto(kind, piece, out.subarray(low - from, high - from), low - start);
      covered += high - low;
    }
    if (covered !== out.length)
      throw new InputError(`${this.directory}: ${name} is incomplete (${covered} of ${out.length} elements)`);
  }

  json<T>(file: string): T {
    const path = join(this.directory, file);
    try {
      return JSON.parse(readFileSync(path, "utf8")) as T;
    } catch (error) {
      throw new InputError(`Cannot read ${path}: ${(error as Error).message.split("\n")[0]}`);
    }
  }

  /** Reads every byte and compares digests. @throws InputError naming the damaged file */
  verify(): void {
    for (const [file, { sha256 }] of Object.entries(this.#digests())) {
      const found = sha256OfFile(join(this.directory, file));
      if (found !== sha256)
        throw new InputError(
          `${join(this.directory, file)} is damaged: its SHA-256 is ${found.slice(0, 12)}…, wanted ${sha256.slice(0, 12)}…; use an earlier checkpoint`,
        );
    }
  }

  close(): void {
    for (const reader of this.#files.values()) reader.close();
    this.#files.clear();
  }

  #digests(): Record<string, WrittenFile> {
    return existsSync(join(this.directory, "digests.json")) ? this.json("digests.json") : {};
  }

  #checkSizes(): void {
    for (const [file, { bytes }] of Object.entries(this.#digests())) {
      const path = join(this.directory, file);
      const found = existsSync(path) ? statSync(path).size : undefined;
      if (found !== bytes)
        throw new InputError(
          `${path} ${found === undefined ? "is missing" : `has ${found} bytes, wanted ${bytes}: it is truncated or was changed`}; use an earlier checkpoint`,
        );
    }
  }

  #index(kind: ShardKind): void {
    const index = join(this.directory, `${kind}.safetensors.index.json`);
    if (existsSync(index)) {
      const { weight_map: map } = this.json<{ weight_map: Record<string, string> }>(
        `${kind}.safetensors.index.json`,
      );
      for (const [name, file] of Object.entries(map)) this.#where[kind].set(name, file);
      return;
    }
    const single = `${kind}.safetensors`;
    if (!existsSync(join(this.directory, single))) {
      if (kind === "model") throw new InputError(`${this.directory} has neither ${single} nor its index`);
      return;
    }
    for (const name of this.#open(single).names) this.#where[kind].set(name, single);
  }

  #open(file: string): SafetensorsReader {
    let reader = this.#files.get(file);
    if (reader === undefined)
      this.#files.set(file, (reader = SafetensorsReader.open(join(this.directory, file))));
    return reader;
  }

  #reader(kind: ShardKind, name: string): SafetensorsReader {
    const file = this.#where[kind].get(name);
    if (file === undefined) throw new InputError(`${this.directory} has no ${kind} tensor "${name}"`);
    return this.#open(file);
  }
}
