import { expect, it } from "vitest";
import { type Block, PrefixStore } from "./prefix-store.js";

/** Adds the first `count` blocks of a prompt, those that are not there. */
function fill(store: PrefixStore, prompt: readonly number[], count: number): Block[] {
  const path: Block[] = [];
  for (let index = 0; index < count; index++)
    path.push(store.find(path.at(-1), prompt, index) ?? store.add(path.at(-1), prompt, index));
  return path;
}
const ids = (blocks: readonly Block[]): number[] => blocks.map(({ id }) => id);

it("finds what a prompt begins with, block by block, and no further than asked", () => {
  const store = new PrefixStore(2);
  fill(store, [1, 2, 3, 4, 5, 6], 3);
  expect(ids(store.match([1, 2, 3, 4, 9, 9], 3))).toEqual([0, 1]);
  expect(ids(store.match([1, 2, 3, 4, 5, 6], 2))).toEqual([0, 1]);
  expect(store.match([9, 2, 3, 4], 2)).toEqual([]);
  expect(store.rows).toBe(6);
});

it("keeps equal chunks apart that stand behind different tokens", () => {
  const store = new PrefixStore(2);
  fill(store, [1, 2, 7, 7], 2);
  expect(ids(store.match([3, 4, 7, 7], 2))).toEqual([]);
  fill(store, [3, 4, 7, 7], 2);
  expect(ids(store.match([3, 4, 7, 7], 2))).toEqual([2, 3]);
  expect(store.match([12, 7, 7], 1)).toEqual([]);
});

it("does not take 1, 23 for 12, 3", () => {
  const store = new PrefixStore(2);
  fill(store, [1, 23], 1);
  expect(store.match([12, 3], 1)).toEqual([]);
});

it("drops what was used longest ago, what builds on a block before it, and gives its number to another", () => {
  const store = new PrefixStore(1);
  fill(store, [1, 2, 3], 3);
  fill(store, [1, 5], 2);
  store.touch(store.match([1, 2, 3], 2).at(-1));
  const dropped: string[] = [];
  for (let count = 0; count < 3; count++) {
    dropped.push(store.oldest!.tokens);
    store.drop(store.oldest!);
  }
  expect(dropped).toEqual(["3", "5", "2"]);
  const [first] = store.match([1, 2], 2);
  expect([1, 2, 3]).toContain(store.add(undefined, [8], 0).id);
  store.drop(first);
  expect(store.match([1], 1)).toEqual([]);
  while (store.oldest) store.drop(store.oldest);
  expect(store.rows).toBe(0);
});
