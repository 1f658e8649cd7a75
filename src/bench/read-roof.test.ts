import { expect, it } from "vitest";
import { readRoof } from "./read-roof.js";

const sumOf = (words: Int32Array): number => words.reduce((sum, word) => (sum + word) | 0, 0) >>> 0;

it.each([1, 127, 128, 131, 2 ** 18 + 77])("reads every word, once: of %d", (count) => {
  const roof = readRoof(4 * count);
  const { words } = roof;
  expect(words).toHaveLength(count);
  expect(roof.read().sum).toBe(sumOf(words));
  // Each word counts, wherever it is among those that are read together.
  words.fill(0);
  for (let at = 0; at < Math.min(count, 300); at++) {
    words[at] = at + 1;
    expect(roof.read().sum).toBe(((at + 1) * (at + 2)) / 2);
  }
  words.fill(-1);
  expect(roof.read().sum).toBe(2 ** 32 - count);
});

it("gives a rate of bytes over time, of memory that has been written", () => {
  const roof = readRoof(2 ** 22);
  expect(roof.words.filter((word) => word === 0)).toHaveLength(1);
  expect(roof.gigabytesPerSecond()).toBeGreaterThan(0);
  expect(roof.gigabytesPerSecond()).toBeLessThan(Infinity);
});
