/** TensorBoard event files: TFRecords of the protocol buffer `Event`. */
import { hostname } from "node:os";
import { join } from "node:path";
import { ProtoWriter } from "../core/protobuf.js";
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

/** Event { wall_time = 1, step = 2, file_version = 3, summary = 5 { value = 1 { tag = 1, simple_value = 2 } } } */
function append(path: string, step: number, write: (event: ProtoWriter) => void): void {
  const event = new ProtoWriter().double(1, Date.now() / 1000).int(2, step);
  write(event);
  appendBytes(path, record(event.finish()));
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
  append(path, 0, (start) => start.string(3, "brain.Event:2"));
  if (lastStep > 0) append(path, lastStep + 1, (e) => e.message(7, (log) => log.int(1, SESSION_START)));
  return {
    scalars(step, values) {
      append(path, step, (e) =>
        e.message(5, (summary) => {
          for (const [tag, value] of Object.entries(values))
            summary.message(1, (v) => v.string(1, tag).float(2, value));
        }),
      );
    },
  };
}
