/**
 * The safetensors format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
 * Reading is by position, never the whole file; writing streams.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { InputError } from "../core/errors.js";
import { numElements } from "../core/tensor.js";
import { explain } from "./files.js";

const ITEM_BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, U8: 1 } as const;
export type StoredType = keyof typeof ITEM_BYTES;
const MAX_HEADER = 100_000_000;
const PIECE = 1 << 26;

export interface StoredTensor {
  readonly dtype: StoredType;
  readonly dims: readonly number[];
  /** Byte range within the file. */
  readonly start: number;
  readonly end: number;
}

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
      closeSync(file);
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

  /** Elements [from, from + out.length) as f32 (F16 and BF16 widened). */
  readInto(name: string, out: Float32Array, from = 0): void {
    const info = this.info(name);
    const size = ITEM_BYTES[info.dtype];
    const convert = TO_F32[info.dtype];
    if (convert === undefined)
      throw new InputError(`${this.path}: tensor "${name}" is ${info.dtype}, wanted F32, F16 or BF16`);
    for (let at = 0; at < out.length; at += PIECE) {
      const count = Math.min(PIECE, out.length - at);
      convert(this.#bytes(info.start + (from + at) * size, count * size), out.subarray(at, at + count));
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
    const bytes = new Uint8Array(length);
    const got = readSync(this.file, bytes, 0, length, start);
    if (got !== length)
      throw new InputError(`${this.path} ends early: ${got} of ${length} bytes at ${start}`);
    return bytes;
  }

  close(): void {
    closeSync(this.file);
  }
}

const TO_F32: Partial<Record<StoredType, (bytes: Uint8Array, out: Float32Array) => void>> = {
  F32: (bytes, out) => out.set(new Float32Array(bytes.buffer)),
  F64: (bytes, out) => out.set(new Float64Array(bytes.buffer)),
  BF16: (bytes, out) => {
    const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
    new Uint16Array(bytes.buffer).forEach((half, i) => (words[i] = half << 16));
  },
  F16: (bytes, out) => new Uint16Array(bytes.buffer).forEach((half, i) => (out[i] = halfToFloat(half))),
};

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function readHeader(path: string, file: number): Map<string, StoredTensor> {
  const bad = (text: string): never => {
    throw new InputError(`${path} is not a valid safetensors file: ${text}`);
  };
  const { size } = fstatSync(file);
  const prefix = new DataView(new ArrayBuffer(8));
  if (readSync(file, prefix, 0, 8, 0) < 8) bad(`it has ${size} bytes, fewer than 8`);
  const length = Number(prefix.getBigUint64(0, true));
  if (length > MAX_HEADER || 8 + length > size)
    bad(`its header claims ${length} bytes, the file has ${size}`);
  const text = new Uint8Array(length);
  readSync(file, text, 0, length, 8);
  let header: Record<string, unknown> | null = null;
  try {
    header = JSON.parse(new TextDecoder().decode(text)) as Record<string, unknown> | null;
  } catch {
    bad("its header is not JSON");
  }
  if (typeof header !== "object" || header === null) return bad("its header is not a JSON object");
  const tensors = new Map<string, StoredTensor>();
  let dataEnd = 0;
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, dims, start, end } = readEntry(value) ?? bad(`the entry of tensor "${name}" is malformed`);
    if (!(dtype in ITEM_BYTES)) bad(`tensor "${name}" has unknown type ${dtype}`);
    if (end - start !== numElements(dims) * ITEM_BYTES[dtype])
      bad(`tensor "${name}" [${dims.join(", ")}] of ${dtype} does not fill bytes ${start} to ${end}`);
    dataEnd = Math.max(dataEnd, end);
    tensors.set(name, { dtype, dims, start: 8 + length + start, end: 8 + length + end });
  }
  if (8 + length + dataEnd > size)
    bad(
      `it is truncated: ${size} bytes, its tensors need ${8 + length + dataEnd}; restore the file or use an earlier checkpoint`,
    );
  return tensors;
}

/** One tensor of the header; undefined unless all parts are there and of the right types. */
function readEntry(value: unknown): StoredTensor | undefined {
  const entry = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  const areSizes = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !areSizes(shape) || !areSizes(offsets) || offsets.length !== 2)
    return undefined;
  return { dtype: dtype as StoredType, dims: shape, start: offsets[0], end: offsets[1] };
}

export interface TensorToStore {
  readonly name: string;
  readonly dtype: "F32" | "I32";
  readonly dims: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** The file's bytes in pieces: header first, then each tensor's memory as it is (nothing is copied). */
export function* safetensorsBytes(tensors: readonly TensorToStore[]): Generator<Uint8Array> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let at = 0;
  for (const { name, dtype, dims, data } of tensors) {
    header[name] = { dtype, shape: dims, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  const json = JSON.stringify(header);
  const text = new TextEncoder().encode(json + " ".repeat((8 - (Buffer.byteLength(json) % 8)) % 8));
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(text.length), true);
  yield prefix;
  yield text;
  for (const { data } of tensors)
    for (let i = 0; i < data.byteLength; i += PIECE)
      yield new Uint8Array(data.buffer, data.byteOffset + i, Math.min(PIECE, data.byteLength - i));
}
