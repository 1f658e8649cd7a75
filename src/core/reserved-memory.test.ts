import { expect, it } from "vitest";
import { addressOf } from "./address.js";
import { pageBytes, reserveMemory } from "./reserved-memory.js";

const MIB = 2 ** 20;
const residentMiB = (): number => process.memoryUsage.rss() / MIB;

it.runIf(process.platform === "linux")("costs what is touched, until that is given back", () => {
  const before = residentMiB();
  // Four pieces: a system may refuse one that is larger than all its memory.
  const pieces = Array.from({ length: 4 }, () => reserveMemory(2 ** 30, "a test"));
  expect(residentMiB() - before).toBeLessThan(40);
  const [memory] = pieces;
  const { data } = memory;
  const start = 2 ** 29 + 1000;
  const length = (100 * MIB) / 4;
  for (let i = 0; i < length; i += 512) data[start + i] = 1;
  data[start - 1] = data[start + length] = 2;
  expect(residentMiB() - before).toBeGreaterThan(95);
  memory.giveBack(start, length);
  expect(residentMiB() - before).toBeLessThan(40);
  expect([data[start - 1], data[start], data[start + length - 1], data[start + length]]).toEqual([
    2, 0, 0, 2,
  ]);
  expect(data.subarray(start, start + length).every((x) => x === 0)).toBe(true);
});

it.each([
  ["within a page", 3, 5],
  ["over the end of a page", 1000, 60],
  ["many pages", 777, 50_000],
  ["nothing", 9, 0],
])("gives back %s and nothing else", (_, start, length) => {
  const memory = reserveMemory(60_000, "a test");
  const { data, address } = memory;
  expect(address % pageBytes()).toBe(0);
  expect(Number(addressOf(data))).toBe(address);
  data.fill(7);
  memory.giveBack(start, length);
  expect(data.every((x, i) => x === (i >= start && i < start + length ? 0 : 7))).toBe(true);
});

it.runIf(process.platform === "linux")("moves pages, and has fresh ones where the system cannot", () => {
  const page = pageBytes() / 4;
  const memory = reserveMemory(8 * page, "a test");
  const { data } = memory;
  const firsts = (): number[] => Array.from({ length: 8 }, (_, i) => data[i * page + 5]);
  for (let i = 0; i < 8; i++) data.fill(i + 1, i * page, (i + 1) * page);
  expect(memory.movePages(0, 4 * page, 2 * page)).toBe(true);
  expect(firsts()).toEqual([0, 0, 3, 4, 1, 2, 7, 8]);
  expect(memory.movePages(4 * page, page, 2 * page)).toBe(true);
  expect(firsts()).toEqual([0, 1, 2, 4, 0, 0, 7, 8]);
  // Ranges that overlap are refused by the system.
  expect(memory.movePages(page, 2 * page, 2 * page)).toBe(false);
  data.fill(9);
  expect(firsts()).toEqual(new Array(8).fill(9));
  memory.giveBack(0, 8 * page);
  expect(data.every((x) => x === 0)).toBe(true);
});

it("finds addresses beyond 4 GiB", () => {
  const { data, address } = reserveMemory(1.5 * 2 ** 30, "a test");
  expect(Number(addressOf(data.subarray(1.25 * 2 ** 30)))).toBe(address + 5 * 2 ** 30);
});

it("says for what there is no address space", () => {
  expect(() => reserveMemory(2 ** 40, "the cache")).toThrow(
    "Cannot reserve 4096.00 GiB of address space for the cache: more than one array can hold; take fewer sequences at once or a shorter context",
  );
});
