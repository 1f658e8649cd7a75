import { expect, it } from "vitest";
import { choose } from "./placement.js";

const candidates = (...rows: readonly (readonly [prefix: number, held: number])[]) =>
  rows.map(([prefixRows, sequenceRows], rank) => ({ rank, prefixRows, sequenceRows }));

it.each([
  ["nobody has room", [], undefined],
  [
    "the one that holds the fewest rows",
    [
      [0, 8],
      [0, 4],
      [0, 6],
    ],
    1,
  ],
  [
    "the first of equal ones",
    [
      [0, 4],
      [0, 4],
    ],
    0,
  ],
  [
    "the one with the prefix, though it is a little busier",
    [
      [0, 0],
      [16, 8],
    ],
    1,
  ],
  [
    "another, when that one is as much busier as the prefix saves",
    [
      [0, 0],
      [16, 16],
    ],
    0,
  ],
] as const)("%s", (_, rows, rank) => {
  expect(choose(candidates(...rows))?.rank).toBe(rank);
});
