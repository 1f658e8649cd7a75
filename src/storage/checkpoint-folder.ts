/** Writes a folder with a model as a checkpoint has it, without what a trainer needs to go on. */
import { renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { EnvironmentError, InputError } from "../core/errors.js";
import { shardName, temporaryDirectory } from "./checkpoint-names.js";
import {
  type WrittenFile,
  exists,
  isDirectory,
  listDirectory,
  makeDirectory,
  readText,
  remove,
  removeQuietly,
  syncDirectory,
  writeDurably,
  writeJsonDurably,
  writing,
} from "./files.js";
import { type TensorToStore, safetensorsBytes } from "./safetensors.js";

export interface CheckpointFolder {
  readonly tensors: readonly TensorToStore[];
  /** Contents of .json files by name, config.json among them. */
  readonly json: Readonly<Record<string, unknown>>;
  /** Files to copy as they are, by path. */
  readonly copies: readonly string[];
}

/** @throws InputError when something is there already: an empty directory is not */
export function refuseToOverwrite(directory: string): void {
  if (!exists(directory)) return;
  if (!isDirectory(directory)) throw new InputError(`${directory} is a file; wanted a directory to write to`);
  const first = listDirectory(directory).at(0);
  if (first !== undefined)
    throw new InputError(
      `${directory} is not empty: it holds ${first}; choose another directory, or remove what is in it`,
    );
}

/**
 * The folder has its name when it is complete, or not at all.
 * @throws InputError as `refuseToOverwrite`; EnvironmentError when it cannot be written
 */
export function writeCheckpointFolder(directory: string, { tensors, json, copies }: CheckpointFolder): void {
  refuseToOverwrite(directory);
  const temporary = temporaryDirectory(directory);
  remove(temporary);
  makeDirectory(temporary);
  try {
    const digests: Record<string, WrittenFile> = {};
    const weights = shardName("model", 0, 1);
    digests[weights] = writeDurably(join(temporary, weights), safetensorsBytes(tensors));
    for (const [name, value] of Object.entries(json))
      digests[name] = writeJsonDurably(join(temporary, name), value);
    for (const path of copies) {
      const bytes = new TextEncoder().encode(readText(path, "the file"));
      digests[basename(path)] = writeDurably(join(temporary, basename(path)), [bytes]);
    }
    writeJsonDurably(join(temporary, "digests.json"), digests);
    writing(directory, () => {
      syncDirectory(temporary);
      renameSync(temporary, directory);
      syncDirectory(dirname(directory));
    });
  } catch (error) {
    removeQuietly(temporary);
    if (["ENOTEMPTY", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? ""))
      throw new EnvironmentError(`Cannot write ${directory}: something has been put there meanwhile`);
    throw error;
  }
}
