import { mkdtempSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { SafetensorsReader, type TensorToStore, safetensorsBytes } from "./safetensors.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-safetensors-"));
let count = 0;

/** A file of these bytes of header, and so many bytes behind it. */
function file(header: string | Uint8Array, numBytes: number, claimed?: number): string {
  const text = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(claimed ?? text.length));
  const path = join(folder, `${count++}.safetensors`);
  writeFileSync(
    path,
    Buffer.concat([prefix, text, Buffer.from(Array.from({ length: numBytes }, (_, i) => i))]),
  );
  return path;
}

function read<T>(path: string, use: (reader: SafetensorsReader) => T): T {
  const reader = SafetensorsReader.open(path);
  try {
    return use(reader);
  } finally {
    reader.close();
  }
}

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).not.toContain("\n");
    return (error as Error).message;
  }
  return "nothing was refused";
}

/** An entry of the header. */
const entry = (shape: number[], offsets: number[], dtype = "U8"): string =>
  JSON.stringify({ dtype, shape, data_offsets: offsets });

const BAD: [what: string, header: string | Uint8Array, numBytes: number, message: RegExp][] = [
  ["a tensor named twice", `{"a":${entry([4], [0, 4])},"a":${entry([4], [0, 4])}}`, 4, /says "a" twice/],
  [
    "a name in two spellings",
    `{"a":${entry([0], [0, 0])},"\\u0061":${entry([4], [0, 4])}}`,
    4,
    /says "a" twice/,
  ],
  ["a key of an entry twice", `{"a":{"dtype":"F32",${entry([4], [0, 4]).slice(1)}}`, 4, /says "dtype" twice/],
  [
    "metadata twice",
    `{"__metadata__":{},"__metadata__":{},"a":${entry([4], [0, 4])}}`,
    4,
    /"__metadata__" twice/,
  ],
  [
    "a key of the metadata twice",
    `{"__metadata__":{"k":"1","k":"2"},"a":${entry([4], [0, 4])}}`,
    4,
    /"k" twice/,
  ],
  [
    "one range for two tensors",
    `{"a":${entry([4], [0, 4])},"b":${entry([4], [0, 4])}}`,
    4,
    /"a" and "b" share bytes 0 to 4/,
  ],
  [
    "ranges that overlap",
    `{"a":${entry([4], [0, 4])},"b":${entry([4], [2, 6])}}`,
    6,
    /"a" and "b" share bytes 2 to 4/,
  ],
  [
    "bytes before the tensors",
    `{"a":${entry([4], [2, 6])}}`,
    6,
    /bytes 0 to 2, before tensor "a", belong to no/,
  ],
  [
    "bytes between tensors",
    `{"b":${entry([4], [5, 9])},"a":${entry([4], [0, 4])}}`,
    9,
    /bytes 4 to 5, before tensor "b"/,
  ],
  ["an empty tensor in nowhere", `{"a":${entry([4], [0, 4])},"b":${entry([0], [9, 9])}}`, 4, /bytes 4 to 9/],
  ["bytes behind the tensors", `{"a":${entry([4], [0, 4])}}`, 5, /1 bytes after its last tensor/],
  ["bytes and no tensor", "{}", 3, /3 bytes after its last tensor/],
  ["too few bytes", `{"a":${entry([4], [0, 4])}}`, 3, /truncated: its tensors need 4 bytes, 3 are there/],
  ["a range that runs backwards", `{"a":${entry([4], [4, 0])}}`, 4, /does not fill bytes 4 to 0/],
  [
    "a range of another size",
    `{"a":${entry([4], [0, 4], "F32")}}`,
    4,
    /"a" \[4\] of F32 does not fill bytes 0 to 4/,
  ],
  ["an odd number of half bytes", `{"a":${entry([3], [0, 2], "F4")}}`, 2, /does not fill/],
  ["a shape beyond any file", `{"a":${entry([2 ** 40, 2 ** 40, 0], [0, 0])}}`, 0, /larger than any file/],
  ["a size beyond any file", `{"a":${entry([2 ** 50, 2 ** 9], [0, 0], "F64")}}`, 0, /larger than any file/],
  ["a negative size", `{"a":${entry([-1], [0, 4])}}`, 4, /entry of tensor "a" is malformed/],
  ["half an element", `{"a":${entry([1.5], [0, 4])}}`, 4, /entry of tensor "a" is malformed/],
  ["three offsets", `{"a":${entry([4], [0, 4, 4])}}`, 4, /entry of tensor "a" is malformed/],
  ["an entry that is a list", `{"a":[]}`, 0, /entry of tensor "a" is malformed/],
  ["an entry that is null", `{"a":null}`, 0, /entry of tensor "a" is malformed/],
  ["metadata that are no map", `{"__metadata__":["pt"]}`, 0, /__metadata__ is not a map of strings/],
  ["metadata that are no text", `{"__metadata__":{"epoch":3}}`, 0, /__metadata__ is not a map of strings/],
  ["a header that is a list", "[]", 0, /does not start with "\{"/],
  ["a blank before the header", " {}", 0, /does not start with "\{"/],
  ["a byte order mark", "\ufeff{}", 0, /does not start with "\{"/],
  ["bytes that are no text", Buffer.from('{"\xff":{}}', "latin1"), 0, /is not UTF-8/],
  ["a header that is cut", `{"a":${entry([4], [0, 4])}`, 4, /is not JSON/],
  ["two headers", "{}{}", 0, /is not JSON/],
];

describe("a safetensors file", () => {
  it.each(BAD)("with %s is refused", (_, header, numBytes, message) => {
    const path = file(header, numBytes);
    const line = refusal(() => SafetensorsReader.open(path));
    expect(line).toMatch(message);
    expect(line).toContain(`${path} is not a valid safetensors file: `);
  });

  it("with a header longer than the file, or than the format allows, is refused", () => {
    expect(refusal(() => SafetensorsReader.open(file("{}", 0, 3)))).toMatch(
      /header claims 3 bytes, the file has 10/,
    );
    expect(refusal(() => SafetensorsReader.open(file("{}", 0, 2 ** 60)))).toMatch(
      /header claims 11529215046068470/,
    );
    const long = file("{}", 0, 100_000_001);
    truncateSync(long, 100_000_009);
    expect(refusal(() => SafetensorsReader.open(long))).toMatch(/100000001 bytes, more than 100000000/);
  });

  it("that is none is refused in one line", () => {
    expect(refusal(() => SafetensorsReader.open(join(folder, "nowhere")))).toMatch(
      /^Cannot open .*does not exist/,
    );
    expect(refusal(() => SafetensorsReader.open(folder))).toMatch(/^Cannot read .*it is a directory/);
    writeFileSync(join(folder, "short"), "1234567");
    expect(refusal(() => SafetensorsReader.open(join(folder, "short")))).toMatch(/7 bytes, fewer than 8/);
  });

  it("may list its tensors in any order, some empty, with metadata and blanks behind the header", () => {
    const header = `{"b":${entry([2], [4, 12], "F32")},"__metadata__":{"dtype":"a","a":"b"},"a":${entry([1], [0, 4], "F32")},"none":${entry([0, 7], [4, 4], "F32")}}   `;
    read(file(header, 12), (reader) => {
      expect(new Set(reader.names)).toEqual(new Set(["a", "b", "none"]));
      const bytes = Uint8Array.from({ length: 12 }, (_, i) => i);
      expect(reader.readF32("b")).toEqual(new Float32Array(bytes.buffer, 4, 2));
      expect(reader.readF32("none")).toHaveLength(0);
    });
    read(file("{}", 0), (reader) => expect(reader.names).toEqual([]));
  });

  it("may hold tensors of any type; only reading one of them as f32 is an error", () => {
    const types: [dtype: string, bits: number][] = [
      ...["BOOL", "U8", "I8", "F8_E5M2", "F8_E8M0"].map((name): [string, number] => [name, 8]),
      ...["U16", "I16"].map((name): [string, number] => [name, 16]),
      ...["U32", "I32"].map((name): [string, number] => [name, 32]),
      ...["U64", "I64", "C64"].map((name): [string, number] => [name, 64]),
      ...[
        ["F4", 4] as [string, number],
        ["F6_E2M3", 6] as [string, number],
        ["F6_E3M2", 6] as [string, number],
      ],
      ["TYPE_OF_TOMORROW", 24],
    ];
    for (const [dtype, bits] of types) {
      const header = `{"odd":${entry([8], [0, bits], dtype)},"x":${entry([1], [bits, bits + 4], "F32")}}`;
      read(file(header, bits + 4), (reader) => {
        expect(reader.readF32("x")).toHaveLength(1);
        expect(refusal(() => reader.readF32("odd"))).toMatch(
          new RegExp(`tensor "odd" is ${dtype}, wanted one of F32, F16, BF16, F64, F8_E4M3$`),
        );
      });
      if (dtype !== "TYPE_OF_TOMORROW")
        expect(
          refusal(() =>
            SafetensorsReader.open(file(`{"odd":${entry([8], [0, bits + 1], dtype)}}`, bits + 1)),
          ),
        ).toMatch(/does not fill/);
    }
  });

  it("gives no elements that are another tensor's", () => {
    const tensors = ["a", "b"].map((name): TensorToStore => ({
      name,
      dtype: "F32",
      dims: [2],
      data: Float32Array.of(1, 2),
    }));
    const path = join(folder, "two");
    writeFileSync(path, Buffer.concat([...safetensorsBytes(tensors)]));
    read(path, (reader) => {
      expect(refusal(() => reader.readInto("a", new Float32Array(2), 1))).toMatch(
        /"a" has 2 elements, wanted 3/,
      );
      reader.readInto("a", new Float32Array(1), 1);
    });
  });
});
