/** TensorBoard event files: TFRecords of the protocol buffer `Event`, written by hand. */
import { hostname } from "node:os";
import { join } from "node:path";
import { appendBytes } from "./files.js";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0x82f63b78 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

/** CRC-32C (Castagnoli). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** TFRecord: length, masked CRC of it, data, masked CRC of it. */
function record(data: Uint8Array): Uint8Array {
  const masked = (bytes: Uint8Array) => {
    const crc = crc32c(bytes);
    return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  };
  const out = new DataView(new ArrayBuffer(16 + data.length));
  out.setBigUint64(0, BigInt(data.length), true);
  out.setUint32(8, masked(new Uint8Array(out.buffer, 0, 8)), true);
  new Uint8Array(out.buffer).set(data, 12);
  out.setUint32(12 + data.length, masked(data), true);
  return new Uint8Array(out.buffer);
}

const varint = (value: number): number[] => {
  const out: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return [...out, value];
};
const chunk = (field: number, data: readonly number[]): number[] => [
  field * 8 + 2,
  ...varint(data.length),
  ...data,
];
const text = (field: number, value: string): number[] => chunk(field, [...new TextEncoder().encode(value)]);
const bytesOf = (array: Float32Array | Float64Array): number[] => [...new Uint8Array(array.buffer)];

/** Event { wall_time = 1, step = 2, file_version = 3, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } } */
function event(step: number, body: readonly number[]): Uint8Array {
  const time = [1 * 8 + 1, ...bytesOf(Float64Array.of(Date.now() / 1000))];
  return record(Uint8Array.from([...time, 2 * 8, ...varint(step), ...body]));
}

export interface TensorboardWriter {
  scalars(step: number, values: Readonly<Record<string, number>>): void;
}

const SESSION_START = 1;

/**
 * A new event file in a run directory. After a resume it tells TensorBoard to forget the steps after `lastStep` that earlier
 * files hold: session_log = 7 { status = 1: START }.
 */
export function openTensorboard(directory: string, lastStep: number): TensorboardWriter {
  const path = join(
    directory,
    `events.out.tfevents.${Math.floor(Date.now() / 1000)}.${hostname()}.${process.pid}`,
  );
  appendBytes(path, event(0, text(3, "brain.Event:2")));
  if (lastStep > 0) appendBytes(path, event(lastStep + 1, chunk(7, [1 * 8, SESSION_START])));
  return {
    scalars(step, values) {
      const summary = Object.entries(values).flatMap(([tag, value]) =>
        chunk(1, [...text(1, tag), 2 * 8 + 5, ...bytesOf(Float32Array.of(value))]),
      );
      appendBytes(path, event(step, chunk(5, summary)));
    },
  };
}
