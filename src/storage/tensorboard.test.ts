import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { crc32c, openTensorboard } from "./tensorboard.js";

/** CRC-32C bit by bit, from its polynomial: shares nothing with the table of the writer. */
function slowCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
const unmask = (masked: number): number => {
  const rotated = (masked - 0xa282ead8) >>> 0;
  return ((rotated >>> 17) | (rotated << 15)) >>> 0;
};

type Field = { field: number; value: number | Buffer };

/** The wire format of protocol buffers: varints, 64-bit, length-delimited, 32-bit. */
function fields(bytes: Buffer): Field[] {
  const out: Field[] = [];
  let at = 0;
  const varint = (): number => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const take = (length: number): Buffer => bytes.subarray(at, (at += length));
    const read: Record<number, () => number | Buffer> = {
      0: varint,
      1: () => take(8),
      2: () => take(varint()),
      5: () => take(4),
    };
    out.push({ field: tag >> 3, value: read[tag & 7]() });
  }
  return out;
}

function events(directory: string): Map<number, number | Buffer>[] {
  const [name] = readdirSync(directory).filter((file) => file.startsWith("events.out.tfevents."));
  const bytes = readFileSync(join(directory, name));
  const list = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(unmask(bytes.readUInt32LE(at + 8))).toBe(slowCrc(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(unmask(bytes.readUInt32LE(at + 12 + length))).toBe(slowCrc(data));
    list.push(new Map(fields(data).map(({ field, value }) => [field, value])));
    at += 16 + length;
  }
  return list;
}

const directory = (): string => mkdtempSync(join(tmpdir(), "scmoe-board-"));

it("crc32c() is CRC-32C", () => {
  expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
});

it("event files hold what was written, in records that check", () => {
  const folder = directory();
  const board = openTensorboard(folder, 0);
  board.scalars(1, { loss: 2.5, "moe/entropy": 0.25 });
  board.scalars(300, { loss: -1 });
  const [version, first, second, ...rest] = events(folder);
  expect(rest).toEqual([]);
  expect(String(version.get(3))).toBe("brain.Event:2");
  expect([first.get(2), second.get(2)]).toEqual([1, 300]);
  expect((first.get(1) as Buffer).readDoubleLE(0)).toBeGreaterThan(1.6e9);
  const values = fields(first.get(5) as Buffer).map(({ field, value }) => {
    expect(field).toBe(1);
    const parts = new Map(fields(value as Buffer).map((f) => [f.field, f.value]));
    return [String(parts.get(1)), (parts.get(2) as Buffer).readFloatLE(0)];
  });
  expect(values).toEqual([
    ["loss", 2.5],
    ["moe/entropy", 0.25],
  ]);
});

it("a resumed run tells the viewer to forget later steps", () => {
  const folder = directory();
  openTensorboard(folder, 40);
  const start = events(folder)[1];
  expect(start.get(2)).toBe(41);
  expect(fields(start.get(7) as Buffer)).toEqual([{ field: 1, value: 1 }]);
});
