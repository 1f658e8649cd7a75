import { expect, it } from "vitest";
import { readRoof } from "./read-roof.js";

it("reads all of the memory, and no more: up to the byte that it looks for", () => {
  const roof = readRoof(3 * 2 ** 20 + 5);
  const { memory } = roof;
  expect(memory).toHaveLength(3 * 2 ** 20 + 5);
  expect(roof.read().bytes).toBe(memory.length);
  // Every page is in use: none is the page of zeros that all untouched ones share.
  expect(memory.indexOf(0)).toBe(memory.length - 1);
  for (const at of [2_000_000, 12_345, 0]) {
    memory[at] = 0;
    expect(roof.read().bytes).toBe(at + 1);
  }
  memory.fill(1);
  expect(() => roof.read()).toThrow(/the byte that is sought/);
});

it("gives a rate of bytes over time", () => {
  const rate = readRoof(2 ** 22).gigabytesPerSecond();
  expect(rate).toBeGreaterThan(0);
  expect(rate).toBeLessThan(Infinity);
});
