import { expect, test } from "vitest";
import { philox, philox4x32 } from "./rng.js";

test("philox4x32 gives the published answer for counter 0, key 0", () => {
  expect(philox4x32([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
});

test("philox4x32 gives the published answer for all ones", () => {
  const ones = 0xffffffff;
  expect(philox4x32([ones, ones, ones, ones], [ones, ones])).toEqual([
    0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd,
  ]);
});

test("fillNormal of a part equals that part of the whole, with mean 0 and variance 1", () => {
  const stream = philox(7, "test");
  const whole = new Float32Array(40_000);
  stream.fillNormal(whole, 0, 1);
  const part = new Float32Array(100);
  stream.fillNormal(part, 1237, 1);
  expect([...part]).toEqual([...whole.subarray(1237, 1337)]);
  const mean = whole.reduce((a, b) => a + b, 0) / whole.length;
  const variance = whole.reduce((a, b) => a + b * b, 0) / whole.length;
  expect(Math.abs(mean)).toBeLessThan(0.02);
  expect(Math.abs(variance - 1)).toBeLessThan(0.03);
});

test.each([1, 2, 5, 64, 1000])("permute is a bijection of [0, %i), different by epoch", (n) => {
  const stream = philox(3, "shuffle");
  const order = (epoch: number) => Array.from({ length: n }, (_, i) => stream.permute(i, n, epoch));
  expect([...order(0)].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
  if (n > 10) expect(order(0)).not.toEqual(order(1));
});
