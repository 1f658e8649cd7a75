/**
 * Writes a folder as models are published: safetensors in shards with an index, and text files beside them. It is made under a
 * temporary name and takes its own complete or not at all.
 */
import { closeSync, fsyncSync, openSync, renameSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { InputError, InterruptedError } from "../core/errors.js";
import { shardName } from "./checkpoint-names.js";
import { toBfloat16 } from "./element-types.js";
import {
  exists,
  isDirectory,
  listDirectory,
  makeDirectory,
  removeQuietly,
  syncDirectory,
  writeAll,
  writeDurably,
  writeJsonDurably,
  writing,
} from "./files.js";
import { safetensorsHeader } from "./safetensors.js";
import { makeWorkDirectory, removeAbandoned } from "./work-directory.js";

/** A tensor of a folder to be written. */
export interface FolderTensor {
  readonly name: string;
  readonly dtype: "F32" | "BF16";
  readonly dims: readonly number[];
  /** Its elements [from, from + out.length): whole rows. */
  readonly readInto: (out: Float32Array, from: number) => void;
}

/** GB of a shard, at most, where nothing else is said: what Hugging Face's tools write. */
export const SHARD_GB = 5;

export interface ModelFolder {
  /** In the order in which they are written. */
  readonly tensors: readonly FolderTensor[];
  /** Content of the other files by name. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Of tensors in a file, at most; a tensor is in one file, whatever its size. */
  readonly shardBytes: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((bytes: number, of: number) => void) | undefined;
}

/** What was written. */
export interface WrittenFolder {
  readonly shards: number;
  /** Of all tensors. */
  readonly bytes: number;
}

const ITEM_BYTES = { F32: 4, BF16: 2 };
/** Elements, in whole rows, that are read, rounded and written at a time, unless a row has more. */
const PIECE = 1 << 20;

/**
 * One tensor after the other, a piece at a time.
 * @param directory must not exist, or be empty
 * @throws InputError when something is there; EnvironmentError when it cannot be written; InterruptedError when asked to stop. Nothing
 *   is left under the directory's name then
 */
export async function writeModelFolder(directory: string, folder: ModelFolder): Promise<WrittenFolder> {
  refuseToOverwrite(directory);
  const target = resolve(directory);
  const parent = dirname(target);
  makeDirectory(parent);
  removeAbandoned(parent, basename(target));
  const work = makeWorkDirectory(target);
  try {
    // A directory within: it has the permissions that the user's directories have.
    const content = join(work, "model");
    makeDirectory(content);
    const written = await writeContent(content, folder);
    refuseToOverwrite(directory);
    writing(directory, () => {
      syncDirectory(content);
      renameSync(content, target);
      syncDirectory(parent);
    });
    return written;
  } finally {
    removeQuietly(work);
  }
}

/** @throws InputError when a directory is there that is not empty, or a file */
export function refuseToOverwrite(directory: string): void {
  if (!exists(directory)) return;
  if (!isDirectory(directory))
    throw new InputError(`${directory} is a file, wanted a directory that is new or empty`);
  const [first] = listDirectory(directory);
  if (first !== undefined)
    throw new InputError(
      `${directory} is not empty (it has ${first}); choose a directory that is new or empty`,
    );
}

async function writeContent(directory: string, folder: ModelFolder): Promise<WrittenFolder> {
  const shards = shardsOf(folder.tensors, folder.shardBytes);
  const total = folder.tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);
  const weightMap: Record<string, string> = {};
  let bytes = 0;
  for (const [i, tensors] of shards.entries()) {
    const file = shardName("model", i, shards.length);
    await writeShard(join(directory, file), tensors, (tensor) => {
      weightMap[tensor.name] = file;
      folder.onProgress?.((bytes += sizeOf(tensor)), total);
      if (folder.signal?.aborted === true) throw new InterruptedError("Interrupted: nothing was written");
    });
  }
  if (shards.length > 1)
    writeJsonDurably(join(directory, "model.safetensors.index.json"), {
      metadata: { total_size: total },
      weight_map: weightMap,
    });
  for (const [name, content] of folder.files) writeDurably(join(directory, name), [content]);
  return { shards: shards.length, bytes: total };
}

function sizeOf({ dtype, dims }: FolderTensor): number {
  return dims.reduce((a, b) => a * b, ITEM_BYTES[dtype]);
}

/** Tensors in files, in order. */
export function shardsOf(tensors: readonly FolderTensor[], shardBytes: number): FolderTensor[][] {
  const shards: FolderTensor[][] = [[]];
  let size = 0;
  for (const tensor of tensors) {
    const bytes = sizeOf(tensor);
    if (size > 0 && bytes > 0 && size + bytes > shardBytes) {
      shards.push([]);
      size = 0;
    }
    shards[shards.length - 1].push(tensor);
    size += bytes;
  }
  return shards;
}

/** @param written is called after each tensor, and may throw */
async function writeShard(
  path: string,
  tensors: readonly FolderTensor[],
  written: (tensor: FolderTensor) => void,
): Promise<void> {
  const file = writing(path, () => openSync(path, "w"));
  const write = (bytes: Uint8Array): void => writing(path, () => writeAll(file, bytes));
  let isWritten = false;
  try {
    write(safetensorsHeader(tensors.map((tensor) => ({ ...tensor, bytes: sizeOf(tensor) }))));
    for (const tensor of tensors) {
      for (const piece of piecesOf(tensor)) write(piece);
      // The event loop must turn for an interruption to be heard.
      await new Promise((resolve) => setImmediate(resolve));
      written(tensor);
    }
    writing(path, () => fsyncSync(file));
    isWritten = true;
  } finally {
    closeAfter(path, file, isWritten);
  }
}

/** After a failure, that is what to tell, not that closing fails too. */
function closeAfter(path: string, file: number, isWritten: boolean): void {
  try {
    writing(path, () => closeSync(file));
  } catch (error) {
    if (isWritten) throw error;
  }
}

function* piecesOf({ name, dtype, dims, readInto }: FolderTensor): Generator<Uint8Array> {
  const count = dims.reduce((a, b) => a * b, 1);
  const columns = Math.max(1, dims.at(-1) ?? 1);
  const step = columns * Math.max(1, Math.floor(PIECE / columns));
  const values = new Float32Array(Math.min(step, count));
  const halves = dtype === "BF16" ? new Uint16Array(values.length) : undefined;
  for (let from = 0; from < count; from += step) {
    const piece = values.subarray(0, Math.min(step, count - from));
    readInto(piece, from);
    const odd = piece.findIndex((value) => !Number.isFinite(value));
    if (odd >= 0)
      throw new InputError(
        `Tensor "${name}" has the value ${piece[odd]} at element ${from + odd}, wanted finite ones; export an earlier checkpoint`,
      );
    if (halves === undefined) yield new Uint8Array(piece.buffer, 0, piece.byteLength);
    else {
      const rounded = toBfloat16(piece, halves.subarray(0, piece.length));
      const beyond = rounded.findIndex((bits) => (bits & 0x7fff) === 0x7f80);
      if (beyond >= 0)
        throw new InputError(
          `Tensor "${name}" has the value ${piece[beyond]} at element ${from + beyond}, which no bf16 is near; export it as f32`,
        );
      yield new Uint8Array(rounded.buffer, 0, rounded.byteLength);
    }
  }
}
