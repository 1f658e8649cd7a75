/**
 * The safetensors format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
 *
 * Reading is by position, f32 straight into where it is wanted, other types through a piece of the size of a cache: nothing
 * is held but the destination and that piece. (A memory map was as fast within 5 %; with one, a disk that fails or a file that
 * somebody cuts short kills the process, where here it is an error.) Writing streams.
 */
import { fstatSync, openSync } from "node:fs";
import { InputError } from "../core/errors.js";
import { numElements } from "../core/tensor.js";
import { bytesOf, elementType, READABLE_TYPES } from "./element-types.js";
import { closeRead, explain, readInto, reading } from "./files.js";
import { MAX_HEADER, type StoredTensor, parseHeader } from "./safetensors-header.js";

/** Of what is read and converted at a time. */
const PIECE_BYTES = 1 << 20;
/** One for all: a new one per tensor would be memory until it is collected. */
let piece: Uint8Array | undefined;
/** Of what is written at a time. */
const WRITTEN_BYTES = 1 << 26;

export class SafetensorsReader {
  private constructor(
    readonly path: string,
    readonly file: number,
    readonly tensors: ReadonlyMap<string, StoredTensor>,
  ) {}

  /** @throws InputError when the file is missing, truncated or not safetensors */
  static open(path: string): SafetensorsReader {
    let file: number;
    try {
      file = openSync(path, "r");
    } catch (error) {
      throw new InputError(`Cannot open ${path}: ${explain(error)}`);
    }
    try {
      return new SafetensorsReader(path, file, readHeader(path, file));
    } catch (error) {
      closeRead(file);
      throw error;
    }
  }

  get names(): readonly string[] {
    return [...this.tensors.keys()];
  }

  info(name: string): StoredTensor {
    const info = this.tensors.get(name);
    if (info === undefined) throw new InputError(`${this.path} has no tensor "${name}"`);
    return info;
  }

  /**
   * Elements [from, from + out.length) as f32 (narrower types widened, F64 rounded).
   * @throws InputError when the tensor is of another type, or has not so many elements
   */
  readInto(name: string, out: Float32Array, from = 0): void {
    const { dtype, dims, start } = this.info(name);
    const type = elementType(dtype);
    if (type === undefined)
      throw new InputError(
        `${this.path}: tensor "${name}" is ${dtype}, wanted one of ${READABLE_TYPES.join(", ")}`,
      );
    if (from + out.length > numElements(dims))
      throw new InputError(
        `${this.path}: tensor "${name}" has ${numElements(dims)} elements, wanted ${from + out.length}`,
      );
    const { itemBytes, toF32 } = type;
    if (toF32 === undefined) return this.#fill(bytesOf(out), start + from * itemBytes);
    const step = PIECE_BYTES / itemBytes;
    piece ??= new Uint8Array(PIECE_BYTES);
    for (let at = 0; at < out.length; at += step) {
      const target = out.subarray(at, at + step);
      const bytes = piece.subarray(0, target.length * itemBytes);
      this.#fill(bytes, start + (from + at) * itemBytes);
      toF32(bytes, target);
    }
  }

  readF32(name: string): Float32Array {
    const out = new Float32Array(numElements(this.info(name).dims));
    this.readInto(name, out);
    return out;
  }

  readI32(name: string): Int32Array {
    const info = this.info(name);
    const bytes = this.#bytes(info.start, info.end - info.start);
    if (info.dtype === "I64") return Int32Array.from(new BigInt64Array(bytes.buffer), Number);
    if (info.dtype !== "I32")
      throw new InputError(`${this.path}: tensor "${name}" is ${info.dtype}, wanted I32 or I64`);
    return new Int32Array(bytes.buffer);
  }

  #bytes(start: number, length: number): Uint8Array {
    return readWhole(this.path, this.file, start, length);
  }

  #fill(bytes: Uint8Array, start: number): void {
    fillWhole(this.path, this.file, bytes, start);
  }

  close(): void {
    closeRead(this.file);
  }
}

/** @throws InputError when the file ends early or cannot be read */
function readWhole(path: string, file: number, start: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  fillWhole(path, file, bytes, start);
  return bytes;
}

/** @throws InputError when the file ends early or cannot be read */
function fillWhole(path: string, file: number, bytes: Uint8Array, start: number): void {
  const got = reading(path, () => readInto(file, bytes, start));
  if (got < bytes.length)
    throw new InputError(`${path} ends early: ${got} of ${bytes.length} bytes at ${start}`);
}

function readHeader(path: string, file: number): Map<string, StoredTensor> {
  const bad = (text: string) => new InputError(`${path} is not a valid safetensors file: ${text}`);
  const { size } = reading(path, () => fstatSync(file));
  if (size < 8) throw bad(`it has ${size} bytes, fewer than 8`);
  const prefix = readWhole(path, file, 0, 8);
  const length = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (8 + length > size) throw bad(`its header claims ${length} bytes, the file has ${size}`);
  if (length > MAX_HEADER) throw bad(`its header has ${length} bytes, more than ${MAX_HEADER}`);
  const header = readWhole(path, file, 8, length);
  try {
    return parseHeader(header, size);
  } catch (error) {
    throw bad((error as Error).message);
  }
}

export interface TensorToStore {
  readonly name: string;
  readonly dtype: "F32" | "I32";
  readonly dims: readonly number[];
  /** Read once, when its bytes are written. */
  readonly data: Float32Array | Int32Array;
}

/** What a header says of a tensor; `bytes`: how many. */
export interface HeaderEntry {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly number[];
  readonly bytes: number;
}

/** The bytes before the tensors, which follow in the same order one behind the other. */
export function safetensorsHeader(tensors: readonly HeaderEntry[]): Uint8Array {
  const entries: [string, unknown][] = [["__metadata__", { format: "pt" }]];
  let at = 0;
  for (const { name, dtype, dims, bytes } of tensors) {
    entries.push([name, { dtype, shape: dims, data_offsets: [at, at + bytes] }]);
    at += bytes;
  }
  const json = JSON.stringify(Object.fromEntries(entries));
  const text = new TextEncoder().encode(json + " ".repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  const header = new Uint8Array(8 + text.length);
  new DataView(header.buffer).setBigUint64(0, BigInt(text.length), true);
  header.set(text, 8);
  return header;
}

/** The file's bytes in pieces: header first, then each tensor's memory as it is (nothing is copied). */
export function* safetensorsBytes(tensors: readonly TensorToStore[]): Generator<Uint8Array> {
  yield safetensorsHeader(
    tensors.map(({ name, dtype, dims }) => ({ name, dtype, dims, bytes: numElements(dims) * 4 })),
  );
  // Each is asked for once: it may be made at that moment.
  for (const tensor of tensors) yield* inPieces(tensor.data);
}

/** An array's bytes as they lie in memory, a piece at a time. */
export function* inPieces(data: ArrayBufferView): Generator<Uint8Array> {
  for (let i = 0; i < data.byteLength; i += WRITTEN_BYTES)
    yield new Uint8Array(data.buffer, data.byteOffset + i, Math.min(WRITTEN_BYTES, data.byteLength - i));
}
