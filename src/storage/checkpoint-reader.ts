/** Reads a checkpoint directory, ours or a folder of Hugging Face's; what was damaged since it was written is an error. */
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { type ShardKind, isPlainName, listCheckpoints, stepOf } from "./checkpoint-names.js";
import { type WrittenFile, exists, explain, fileSize, sha256OfFile } from "./files.js";
import { SafetensorsReader } from "./safetensors.js";

/**
 * What to do about a damaged checkpoint: the newest earlier one whose every file is as it was written. Nothing to say of a
 * folder that is no checkpoint of a run.
 */
function advice(directory: string): string {
  const parent = dirname(directory);
  const step = stepOf(basename(directory));
  if (step === undefined) return "";
  const earlier = listCheckpoints(parent).filter((name) => (stepOf(name) ?? step) < step);
  if (earlier.length === 0) return "; there is no earlier checkpoint";
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
    ? "; no earlier checkpoint is intact"
    : `; an earlier checkpoint is intact: ${join(parent, intact)} (scmoe train --resume takes it)`;
}

export class CheckpointReader {
  readonly #files = new Map<string, SafetensorsReader>();
  readonly #where: Record<ShardKind, Map<string, string>> = { model: new Map(), optimizer: new Map() };

  readonly #digests: ReadonlyMap<string, WrittenFile>;

  /**
   * @param advise name an earlier checkpoint in the error when this one is damaged
   * @throws InputError when a file is missing or its size is not what it was when written, or an index names what is not there
   */
  constructor(
    readonly directory: string,
    readonly advise = true,
  ) {
    try {
      this.#digests = this.#readDigests();
      this.#checkSizes();
      for (const kind of ["model", "optimizer"] as const) this.#index(kind);
    } catch (error) {
      this.close();
      throw error;
    }
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
    const to = from + out.length;
    const pieces = [...this.#where[kind].keys()]
      .filter((piece) => piece.startsWith(`${name}@`))
      .map((piece) => ({ piece, range: /^(\d+)-(\d+)$/.exec(piece.slice(name.length + 1)) ?? [] }))
      .map(({ piece, range }) => ({ piece, start: Number(range[1]), end: Number(range[2]) }))
      .sort((a, b) => a.start - b.start);
    let at = from;
    for (const { piece, start, end } of pieces) {
      if (!(start <= at && at < end) || at >= to) continue;
      const high = Math.min(end, to);
      this.readInto(kind, piece, out.subarray(at - from, high - from), at - start);
      at = high;
    }
    if (at !== to)
      throw new InputError(
        `${this.directory}: ${name} is incomplete (${at - from} of ${out.length} elements)`,
      );
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
      const found = this.#digestOf(file);
      if (found !== sha256)
        throw this.#damaged(
          file,
          `is damaged: its SHA-256 is ${found.slice(0, 12)}…, wanted ${sha256.slice(0, 12)}…`,
        );
    });
  }

  #digestOf(file: string): string {
    try {
      return sha256OfFile(join(this.directory, file));
    } catch (error) {
      throw this.#damaged(file, `cannot be read: ${explain(error)}`);
    }
  }

  close(): void {
    for (const reader of this.#files.values()) reader.close();
    this.#files.clear();
  }

  #damaged(file: string, what: string): InputError {
    return new InputError(
      `${join(this.directory, file)} ${what}${this.advise ? advice(this.directory) : ""}`,
    );
  }

  /** Empty for a folder of Hugging Face's: only a checkpoint with a trainer's state must have digests. */
  #readDigests(): ReadonlyMap<string, WrittenFile> {
    const isHere = exists(join(this.directory, "digests.json"));
    if (!isHere && !exists(join(this.directory, "trainer_state.json"))) return new Map();
    const digests = new Map(Object.entries(this.json<Record<string, WrittenFile>>("digests.json")));
    for (const [file, facts] of digests)
      if (!isPlainName(file)) throw this.#damaged("digests.json", `is damaged: "${file}" is no file's name`);
      else if (typeof facts?.bytes !== "number" || typeof facts.sha256 !== "string")
        throw this.#damaged("digests.json", `is damaged: its entry "${file}" has no bytes and sha256`);
    return digests;
  }

  #checkSizes(): void {
    for (const [file, { bytes }] of this.#digests) {
      const path = join(this.directory, file);
      const found = fileSize(path);
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
    if (exists(index)) {
      const { weight_map: map } = this.json<{ weight_map?: Record<string, unknown> }>(basename(index));
      if (typeof map !== "object" || map === null) throw this.#damaged(basename(index), "has no weight_map");
      for (const [name, file] of Object.entries(map)) {
        // A name with a folder in it would reach out of the checkpoint.
        if (typeof file !== "string" || !isPlainName(file))
          throw this.#damaged(basename(index), `names no file for "${name}": ${JSON.stringify(file)}`);
        if (!exists(join(this.directory, file)))
          throw this.#damaged(basename(index), `names the file ${file} for "${name}", which is missing`);
        if (!this.#open(file).tensors.has(name))
          throw this.#damaged(basename(index), `names the file ${file} for "${name}", which is not in it`);
        this.#where[kind].set(name, file);
      }
      return;
    }
    const single = `${kind}.safetensors`;
    if (!exists(join(this.directory, single))) {
      if (kind === "model") throw new InputError(`${this.directory} has neither ${single} nor its index`);
      return;
    }
    for (const name of this.#open(single).names) this.#where[kind].set(name, single);
  }

  #open(file: string): SafetensorsReader {
    const opened = this.#files.get(file);
    if (opened !== undefined) return opened;
    try {
      const reader = SafetensorsReader.open(join(this.directory, file));
      this.#files.set(file, reader);
      return reader;
    } catch (error) {
      // What is damaged in a header is told as what is damaged elsewhere.
      const what = error instanceof InputError && this.advise ? advice(this.directory) : "";
      throw what === "" ? error : new InputError(`${(error as Error).message}${what}`);
    }
  }

  #reader(kind: ShardKind, name: string): SafetensorsReader {
    const file = this.#where[kind].get(name);
    if (file === undefined) throw new InputError(`${this.directory} has no ${kind} tensor "${name}"`);
    return this.#open(file);
  }
}
