/**
 * The header of a safetensors file: which tensor has which bytes. What the format's own reader refuses is refused here:
 * the tensors fill the bytes after the header one behind the other, without holes, overlaps or bytes left over.
 */
import { repeatedKey } from "./repeated-key.js";

/** Bits of an element, and the format's types that have so many. */
const TYPES = [
  [4, "F4"],
  [6, "F6_E2M3 F6_E3M2"],
  [8, "BOOL U8 I8 F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ"],
  [16, "U16 I16 F16 BF16"],
  [32, "U32 I32 F32"],
  [64, "U64 I64 F64 C64"],
] as const;
const ITEM_BITS: ReadonlyMap<string, number> = new Map(
  TYPES.flatMap(([bits, names]) => names.split(" ").map((name) => [name, bits])),
);
/** Bytes of the header, at most: the format's own limit. */
export const MAX_HEADER = 100_000_000;
/** Sizes beyond this are an overflow to the format's own reader. */
const MAX_SIZE = 2n ** 64n;

export interface StoredTensor {
  /** As the file names it; one that this version does not know is an error only to who reads the tensor. */
  readonly dtype: string;
  readonly dims: readonly number[];
  /** Byte range within the file. */
  readonly start: number;
  readonly end: number;
}

/**
 * The tensors of a file by name.
 * @param header the bytes between the length and the tensors
 * @param size of the whole file, in bytes
 * @throws Error that says in words what is wrong
 */
export function parseHeader(header: Uint8Array, size: number): Map<string, StoredTensor> {
  const entries = Object.entries(parseJson(header));
  const tensors: [string, StoredTensor][] = [];
  for (const [name, value] of entries)
    if (name === "__metadata__") checkMetadata(value);
    else tensors.push([name, readEntry(name, value)]);
  const first = 8 + header.length;
  checkCover(tensors, size - first);
  return new Map(
    tensors.map(([name, { start, end, ...rest }]) => [
      name,
      { ...rest, start: first + start, end: first + end },
    ]),
  );
}

function parseJson(bytes: Uint8Array): object {
  if (bytes[0] !== 0x7b) throw new Error('its header does not start with "{"');
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("its header is not UTF-8");
  }
  let header: object;
  try {
    header = JSON.parse(text) as object;
  } catch {
    throw new Error("its header is not JSON");
  }
  const repeated = repeatedKey(text);
  if (repeated !== undefined) throw new Error(`its header says "${repeated}" twice`);
  return header;
}

function checkMetadata(value: unknown): void {
  const isMap = typeof value === "object" && !Array.isArray(value);
  if (!isMap || Object.values(value ?? {}).some((text) => typeof text !== "string"))
    throw new Error("its __metadata__ is not a map of strings to strings");
}

/** One tensor; its range counts from the end of the header. */
function readEntry(name: string, value: unknown): StoredTensor {
  const entry = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  const areSizes = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
  const { dtype, shape: dims, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !areSizes(dims) || !areSizes(offsets) || offsets.length !== 2)
    throw new Error(`the entry of tensor "${name}" is malformed`);
  const [start, end] = offsets;
  const bits = bitsOf(dtype, dims);
  if (bits === "overflow") throw new Error(`tensor "${name}" [${dims.join(", ")}] is larger than any file`);
  if (end < start || (bits !== undefined && BigInt(end - start) * 8n !== bits))
    throw new Error(
      `tensor "${name}" [${dims.join(", ")}] of ${dtype} does not fill bytes ${start} to ${end}`,
    );
  return { dtype, dims, start, end };
}

/** Undefined for a type that is not known. */
function bitsOf(dtype: string, dims: readonly number[]): bigint | "overflow" | undefined {
  let count = 1n;
  for (const dim of dims) if ((count *= BigInt(dim)) >= MAX_SIZE) return "overflow";
  const bits = ITEM_BITS.get(dtype);
  if (bits === undefined) return undefined;
  return count * BigInt(bits) >= MAX_SIZE ? "overflow" : count * BigInt(bits);
}

/** @param size bytes after the header */
function checkCover(tensors: readonly (readonly [string, StoredTensor])[], size: number): void {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  let [at, last] = [0, ""];
  for (const [name, { start, end }] of inOrder) {
    if (start < at) throw new Error(`tensors "${last}" and "${name}" share bytes ${start} to ${at}`);
    if (start > at) throw new Error(`bytes ${at} to ${start}, before tensor "${name}", belong to no tensor`);
    [at, last] = [end, name];
  }
  if (at > size) throw new Error(`it is truncated: its tensors need ${at} bytes, ${size} are there`);
  if (at < size) throw new Error(`${size - at} bytes after its last tensor belong to no tensor`);
}
