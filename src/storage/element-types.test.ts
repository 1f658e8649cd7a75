import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { toBfloat16 } from "./element-types.js";
import { SafetensorsReader, safetensorsHeader } from "./safetensors.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-elements-"));

/** A file with one tensor "x" of these bytes. */
function file(name: string, dtype: string, dims: number[], bytes: Uint8Array): SafetensorsReader {
  const path = join(folder, name);
  writeFileSync(
    path,
    Buffer.concat([safetensorsHeader([{ name: "x", dtype, dims, bytes: bytes.length }]), bytes]),
  );
  return SafetensorsReader.open(path);
}

/** Value of a pattern of sign, `e` bits of exponent and `f` of fraction, by the definition of such types. */
function valueOf(bits: number, e: number, f: number, isFinite: boolean): number {
  const sign = bits >>> (e + f) ? -1 : 1;
  const exponent = (bits >>> f) & (2 ** e - 1);
  const fraction = bits & (2 ** f - 1);
  const bias = 2 ** (e - 1) - 1;
  if (exponent === 2 ** e - 1) {
    if (!isFinite) return fraction === 0 ? sign * Infinity : NaN;
    if (fraction === 2 ** f - 1) return NaN;
  }
  return exponent === 0
    ? sign * 2 ** (1 - bias) * (fraction / 2 ** f)
    : sign * 2 ** (exponent - bias) * (1 + fraction / 2 ** f);
}

const patterns16 = Uint16Array.from({ length: 65536 }, (_, i) => i);

describe("every pattern is read as its value", () => {
  const bytes16 = new Uint8Array(patterns16.buffer);
  const bytes8 = Uint8Array.from({ length: 256 }, (_, i) => i);
  const types: [string, Uint8Array, number, number, boolean][] = [
    ["F16", bytes16, 5, 10, false],
    ["BF16", bytes16, 8, 7, false],
    ["F8_E4M3", bytes8, 4, 3, true],
  ];
  it.each(types)("%s", (dtype, bytes, e, f, isFinite) => {
    const count = 2 ** (1 + e + f);
    const reader = file(dtype, dtype, [count], bytes);
    const values = reader.readF32("x");
    reader.close();
    const wrong = [...values.keys()].filter((i) => !Object.is(values[i], valueOf(i, e, f, isFinite)));
    expect(wrong).toEqual([]);
  });

  it("F8_E4M3 at its ends", () => {
    const reader = file("ends", "F8_E4M3", [6], Uint8Array.of(0x7e, 0xfe, 0x01, 0x80, 0x7f, 0xff));
    expect([...reader.readF32("x")]).toEqual([448, -448, 2 ** -9, -0, NaN, NaN]);
    reader.close();
  });
});

describe("a tensor larger than the piece that is read at a time", () => {
  const COUNT = 3 * 2 ** 20 + 5;
  const bytes = new Uint8Array(COUNT * 2);
  new Uint16Array(bytes.buffer).forEach((_, i, all) => (all[i] = (i * 2654435761) >>> 16));
  it.each([0, 1, 2 ** 19 - 1, 2 ** 20])("is read from element %i on as the whole is", (from) => {
    const reader = file("large", "BF16", [COUNT], bytes);
    const part = new Float32Array(COUNT - from - 3);
    reader.readInto("x", part, from);
    reader.close();
    const halves = new Uint16Array(bytes.buffer).subarray(from, COUNT - 3);
    const words = new Uint32Array(part.buffer);
    expect(words.findIndex((word, i) => word !== (halves[i] << 16) >>> 0)).toBe(-1);
  });
});

describe("f32 to bf16", () => {
  it("gives every bf16 back as it was, and what is no number as none", () => {
    const words = Uint32Array.from(patterns16, (bits) => bits << 16);
    const back = toBfloat16(new Float32Array(words.buffer));
    const isNone = (bits: number): boolean => (bits & 0x7fff) > 0x7f80;
    expect(back.findIndex((bits, i) => (isNone(i) ? !isNone(bits) : bits !== i))).toBe(-1);
  });

  it("rounds to the nearest, of two to the even one", () => {
    for (const upper of [0x3f80, 0x3f81, 0x0000, 0x0001, 0x7f7e, 0xbf81, 0x7f7f, 0xff7f])
      for (const lower of [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff]) {
        const word = ((upper << 16) | lower) >>> 0;
        const up = lower > 0x8000 || (lower === 0x8000 && upper % 2 === 1);
        const [bits] = toBfloat16(new Float32Array(Uint32Array.of(word).buffer));
        expect(bits, word.toString(16)).toBe(upper + (up ? 1 : 0));
      }
    const none = Uint32Array.of(0x7f800001, 0xff800001, 0x7fffffff);
    expect([...toBfloat16(new Float32Array(none.buffer))].map((bits) => bits & 0x7fff)).toEqual([
      0x7fc0, 0x7fc0, 0x7fff,
    ]);
  });
});
