/** The weight files of a published folder: one file, or shards with an index. A tensor that nobody asks for is not looked at. */
import { join } from "node:path";
import { InputError } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import { shown } from "../core/shown.js";
import { isPlainName } from "./checkpoint-names.js";
import { exists, readText } from "./files.js";
import type { StoredTensor } from "./safetensors-header.js";
import { SafetensorsReader } from "./safetensors.js";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
/** Formats that are not read, by their usual names. */
const OTHERS = ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.gguf", "tf_model.h5"];

/** A tensor, and the file it is in. */
export interface FoundTensor {
  readonly file: SafetensorsReader;
  readonly info: StoredTensor;
}

export class PublishedFiles {
  readonly #opened = new Map<string, SafetensorsReader>();
  /** Tensor → file, where there is an index. */
  readonly #index: ReadonlyMap<string, string> | undefined;
  /** In which a tensor may be that the index does not list. */
  readonly #shards: readonly string[];

  /** @throws InputError when an index is damaged, or names a file that is not in the folder */
  constructor(readonly directory: string) {
    const isSingle = exists(join(directory, SINGLE));
    this.#index = isSingle ? undefined : readIndex(join(directory, INDEX));
    this.#shards = isSingle ? [SINGLE] : [...new Set(this.#index?.values())];
  }

  /** Undefined where no file has it. @throws InputError when a file is damaged */
  find(name: string): FoundTensor | undefined {
    const listed = this.#index?.get(name);
    const first = listed === undefined ? undefined : this.#in(listed, name);
    if (first !== undefined) return first;
    for (const shard of this.#shards) {
      const found = this.#in(shard, name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Why a tensor is not there, and where it should have been. */
  whyMissing(names: readonly string[]): InputError {
    const [name] = names;
    const listed = names.find((one) => this.#index?.has(one));
    if (listed !== undefined) {
      const shard = this.#index?.get(listed) ?? "";
      const what = exists(join(this.directory, shard)) ? "has no such tensor" : "is missing";
      return new InputError(
        `${join(this.directory, INDEX)}: tensor "${listed}" is to be in ${shard}, which ${what}`,
      );
    }
    if (this.#shards.length > 0)
      return new InputError(
        `${this.directory} has no tensor "${name}"${names.length > 1 ? ` (nor ${names.slice(1).join(", ")})` : ""}`,
      );
    const other = OTHERS.find((file) => exists(join(this.directory, file)));
    return new InputError(
      `${this.directory} has neither ${SINGLE} nor ${INDEX}${other === undefined ? "" : `; it has ${other}, which is not supported: wanted safetensors`}`,
    );
  }

  close(): void {
    for (const reader of this.#opened.values()) reader.close();
    this.#opened.clear();
  }

  #in(shard: string, name: string): FoundTensor | undefined {
    const path = join(this.directory, shard);
    const opened = this.#opened.get(shard);
    if (opened === undefined && !exists(path)) return undefined;
    const file = opened ?? SafetensorsReader.open(path);
    this.#opened.set(shard, file);
    const info = file.tensors.get(name);
    return info === undefined ? undefined : { file, info };
  }
}

function readIndex(path: string): ReadonlyMap<string, string> | undefined {
  if (!exists(path)) return undefined;
  const json = parseJson(readText(path, "the index"), path) as { weight_map?: unknown } | null;
  const map = json?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map))
    throw new InputError(`${path}: weight_map is ${shown(map)}; wanted an object of tensors and their files`);
  for (const [name, file] of Object.entries(map))
    // A name with a folder in it would reach out of this one.
    if (typeof file !== "string" || !isPlainName(file))
      throw new InputError(
        `${path}: the file of "${name}" is ${shown(file)}; wanted the name of a file beside it`,
      );
  return new Map(Object.entries(map as Record<string, string>));
}
