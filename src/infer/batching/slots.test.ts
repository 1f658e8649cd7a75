import fc from "fast-check";
import { expect, it } from "vitest";
import { closeGaps } from "./slots.js";

it("closes gaps with the last ones, one move each", () => {
  expect(closeGaps(["a", undefined, "c", undefined, "e"])).toEqual({
    occupants: ["a", "e", "c"],
    moves: [{ from: 4, to: 1 }],
  });
  expect(closeGaps([undefined, undefined])).toEqual({ occupants: [], moves: [] });
  expect(closeGaps(["a", "b", undefined])).toEqual({ occupants: ["a", "b"], moves: [] });
});

it("loses nobody, and moves only to where nobody is", () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.nat(), { nil: undefined })), (slots) => {
      const now = [...slots];
      const { occupants, moves } = closeGaps(slots);
      for (const { from, to } of moves) {
        expect(now[to]).toBe(undefined);
        [now[to], now[from]] = [now[from], undefined];
      }
      expect(now.slice(0, occupants.length)).toEqual(occupants);
      expect([...occupants].sort()).toEqual(slots.filter((s) => s !== undefined).sort());
    }),
    { seed: 1, numRuns: 200 },
  );
});
