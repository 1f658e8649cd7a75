import { expect, it } from "vitest";
import { residentMemory } from "./resident-memory.js";

it("tells growth from what begins and from what comes and goes", () => {
  const beginning = Array.from({ length: 40 }, (_, i) => i);
  const noisy = Array.from({ length: 80 }, (_, i) => (i < 40 ? 100 : 110) + (i % 10 === 3 ? 50 : 0));
  expect(residentMemory([...beginning, ...noisy])).toEqual({ start: 0, early: 100, late: 110, most: 160 });
});

it("takes all samples of a short run", () => {
  expect(residentMemory([5])).toEqual({ start: 5, early: 5, late: 5, most: 5 });
  expect(residentMemory([5, 6, 7, 8])).toMatchObject({ early: 5, late: 8 });
});
