/**
 * The safetensors format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
 * Reading is by position, never the whole file; writing streams.
 */
import { fstatSync, openSync } from "node:fs";
import { InputError } from "../core/errors.js";
import { numElements } from "../core/tensor.js";
import { closeRead, explain, readAt, reading } from "./files.js";
import { MAX_HEADER, type StoredTensor, parseHeader } from "./safetensors-header.js";

const PIECE = 1 << 26;

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
   * Elements [from, from + out.length) as f32 (F16 and BF16 widened, F64 rounded).
   * @throws InputError when the tensor is of another type, or has not so many elements
   */
  readInto(name: string, out: Float32Array, from = 0): void {
    const { dtype, dims, start } = this.info(name);
    if (!Object.hasOwn(TO_F32, dtype))
      throw new InputError(
        `${this.path}: tensor "${name}" is ${dtype}, wanted one of ${Object.keys(TO_F32).join(", ")}`,
      );
    if (from + out.length > numElements(dims))
      throw new InputError(
        `${this.path}: tensor "${name}" has ${numElements(dims)} elements, wanted ${from + out.length}`,
      );
    const { itemBytes, convert } = TO_F32[dtype as ReadableType];
    for (let at = 0; at < out.length; at += PIECE) {
      const count = Math.min(PIECE, out.length - at);
      convert(this.#bytes(start + (from + at) * itemBytes, count * itemBytes), out.subarray(at, at + count));
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

  close(): void {
    closeRead(this.file);
  }
}

type ReadableType = "F32" | "F16" | "BF16" | "F64";

const TO_F32: Readonly<
  Record<
    ReadableType,
    { readonly itemBytes: number; readonly convert: (bytes: Uint8Array, out: Float32Array) => void }
  >
> = {
  F32: { itemBytes: 4, convert: (bytes, out) => out.set(new Float32Array(bytes.buffer)) },
  F16: {
    itemBytes: 2,
    convert: (bytes, out) => new Uint16Array(bytes.buffer).forEach((half, i) => (out[i] = halfToFloat(half))),
  },
  BF16: {
    itemBytes: 2,
    convert: (bytes, out) => {
      const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
      new Uint16Array(bytes.buffer).forEach((half, i) => (words[i] = half << 16));
    },
  },
  F64: { itemBytes: 8, convert: (bytes, out) => out.set(new Float64Array(bytes.buffer)) },
};

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** @throws InputError when the file ends early or cannot be read */
function readWhole(path: string, file: number, start: number, length: number): Uint8Array {
  const bytes = reading(path, () => readAt(file, start, length));
  if (bytes.length < length)
    throw new InputError(`${path} ends early: ${bytes.length} of ${length} bytes at ${start}`);
  return bytes;
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

/** The file's bytes in pieces: header first, then each tensor's memory as it is (nothing is copied). */
export function* safetensorsBytes(tensors: readonly TensorToStore[]): Generator<Uint8Array> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let at = 0;
  for (const { name, dtype, dims } of tensors) {
    const bytes = numElements(dims) * 4;
    header[name] = { dtype, shape: dims, data_offsets: [at, at + bytes] };
    at += bytes;
  }
  const json = JSON.stringify(header);
  const text = new TextEncoder().encode(json + " ".repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(text.length), true);
  yield prefix;
  yield text;
  for (const tensor of tensors) {
    // Asked for once: it may be made at that moment.
    const { data } = tensor;
    for (let i = 0; i < data.byteLength; i += PIECE)
      yield new Uint8Array(data.buffer, data.byteOffset + i, Math.min(PIECE, data.byteLength - i));
  }
}
