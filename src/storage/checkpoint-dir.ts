/**
 * A checkpoint directory: config.json, model*.safetensors and optimizer*.safetensors with their indices, trainer_state.json,
 * tokenizer.json, digests.json. Which file holds a tensor depends on how many ranks wrote it; what a reader sees does not.
 */
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import {
  type Disk,
  type WrittenFile,
  diskError,
  explain,
  makeDirectory,
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

/** Names of the checkpoints in a directory, oldest first. */
function listCheckpoints(parent: string): string[] {
  if (!existsSync(parent) || !statSync(parent).isDirectory()) return [];
  return readdirSync(parent)
    .filter((name) => /^step-\d+$/.test(name))
    .sort();
}

/** Keeps `current` and the newest before it. Later steps belong to a past that was resumed away from: they go first. */
function prune(parent: string, current: string, keep: number): void {
  const all = listCheckpoints(parent);
  const before = all.filter((name) => name < current);
  const kept = new Set([current, ...before.slice(Math.max(0, before.length - (keep - 1)))]);
  for (const name of all) if (!kept.has(name)) rmSync(join(parent, name), { recursive: true });
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

/** What to do about a damaged checkpoint: the newest earlier one whose every file is as it was written. */
function advice(directory: string): string {
  const parent = dirname(directory);
  const earlier = listCheckpoints(parent).filter((name) => name < basename(directory));
  const intact = earlier.reverse().find((name) => {
    try {
      const reader = new CheckpointReader(join(parent, name), false);
      reader.verify();
      reader.close();
      return true;
    } catch {
      return false;
    }
  });
  return intact === undefined
    ? "no earlier checkpoint is intact"
    : `an earlier checkpoint is intact: ${join(parent, intact)} (scmoe train --resume takes it)`;
}

export class CheckpointReader {
  readonly #files = new Map<string, SafetensorsReader>();
  readonly #where: Record<ShardKind, Map<string, string>> = { model: new Map(), optimizer: new Map() };

  readonly #digests: ReadonlyMap<string, WrittenFile>;

  /**
   * @param advise name an earlier checkpoint in the error when this one is damaged
   * @throws InputError when a file is missing or its size is not what it was when written
   */
  constructor(
    readonly directory: string,
    readonly advise = true,
  ) {
    this.#digests = this.#readDigests();
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
    let value: unknown;
    try {
      value = JSON.parse(readFileSync(path, "utf8"));
    } catch (error) {
      throw this.#damaged(file, error instanceof SyntaxError ? "is not JSON" : explain(error));
    }
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw this.#damaged(file, "is not a JSON object");
    return value as T;
  }

  /**
   * Reads every byte and compares digests. Ranks share the work: each reads the files whose turn is its own.
   * @throws InputError naming the damaged file
   */
  verify(share = { turn: 0, of: 1 }): void {
    [...this.#digests].forEach(([file, { sha256 }], i) => {
      if (i % share.of !== share.turn) return;
      const found = sha256OfFile(join(this.directory, file));
      if (found !== sha256)
        throw this.#damaged(
          file,
          `is damaged: its SHA-256 is ${found.slice(0, 12)}…, wanted ${sha256.slice(0, 12)}…`,
        );
    });
  }

  close(): void {
    for (const reader of this.#files.values()) reader.close();
    this.#files.clear();
  }

  #damaged(file: string, what: string): InputError {
    return new InputError(
      `${join(this.directory, file)} ${what}${this.advise ? `; ${advice(this.directory)}` : ""}`,
    );
  }

  /** Empty for a folder of Hugging Face's: only a checkpoint with a trainer's state must have digests. */
  #readDigests(): ReadonlyMap<string, WrittenFile> {
    const isHere = existsSync(join(this.directory, "digests.json"));
    if (!isHere && !existsSync(join(this.directory, "trainer_state.json"))) return new Map();
    const digests = new Map(Object.entries(this.json<Record<string, WrittenFile>>("digests.json")));
    for (const [file, facts] of digests)
      if (typeof facts?.bytes !== "number" || typeof facts.sha256 !== "string")
        throw this.#damaged("digests.json", `is damaged: its entry "${file}" has no bytes and sha256`);
    return digests;
  }

  #checkSizes(): void {
    for (const [file, { bytes }] of this.#digests) {
      const path = join(this.directory, file);
      const found = existsSync(path) ? statSync(path).size : undefined;
      if (found !== bytes)
        throw this.#damaged(
          file,
          found === undefined
            ? "is missing"
            : `has ${found} bytes, wanted ${bytes}: it is truncated or was changed`,
        );
    }
  }

  #index(kind: ShardKind): void {
    const index = join(this.directory, `${kind}.safetensors.index.json`);
    if (existsSync(index)) {
      const { weight_map: map } = this.json<{ weight_map?: Record<string, unknown> }>(basename(index));
      if (typeof map !== "object" || map === null) throw this.#damaged(basename(index), "has no weight_map");
      for (const [name, file] of Object.entries(map)) {
        // A name with a folder in it would reach out of the checkpoint.
        if (typeof file !== "string" || basename(file) !== file)
          throw this.#damaged(basename(index), `names no file for "${name}"`);
        this.#where[kind].set(name, file);
      }
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
