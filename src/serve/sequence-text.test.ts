import fc from "fast-check";
import { expect, it } from "vitest";
import { sequenceText } from "./sequence-text.js";

/** Each token is a character. */
const tokenizer = {
  decode: (ids: Iterable<number>) => [...ids].map((id) => String.fromCharCode(97 + id)).join(""),
  isByte: () => false,
};

function written(ids: readonly number[], stops: readonly string[]) {
  const text = sequenceText(tokenizer, [], stops);
  const pieces: string[] = [];
  for (const id of ids) {
    pieces.push(text.add(id));
    if (text.stop !== undefined) break;
  }
  pieces.push(text.end());
  return { pieces, text: pieces.join(""), stop: text.stop };
}

/** By looking at the whole text after each character. */
function slowly(ids: readonly number[], stops: readonly string[]) {
  const whole = tokenizer.decode(ids);
  for (let length = 1; length <= whole.length; length++) {
    const text = whole.slice(0, length);
    const found = stops.filter((stop) => text.endsWith(stop)).sort((a, b) => b.length - a.length)[0];
    if (found !== undefined) return { text: text.slice(0, -found.length), stop: found };
  }
  return { text: whole, stop: undefined };
}

const letters = fc.array(fc.nat(2), { maxLength: 30 });
const stopTexts = fc.array(fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 4 }), {
  maxLength: 3,
});

it("finds the stop string that is complete first, and holds back only what may be the beginning of one", () => {
  fc.assert(
    fc.property(letters, stopTexts, (ids, parts) => {
      const stops = parts.map((part) => part.join(""));
      const found = written(ids, stops);
      expect(found).toMatchObject(slowly(ids, stops));
      let sure = "";
      found.pieces.slice(0, -1).forEach((piece, i) => {
        sure += piece;
        const held = tokenizer.decode(ids.slice(0, i + 1)).slice(sure.length);
        if (found.stop === undefined || i < found.pieces.length - 2)
          expect(held === "" || stops.some((stop) => stop.startsWith(held))).toBe(true);
      });
    }),
    { numRuns: 500, seed: 7 },
  );
});

it("gives nothing without a tokenizer, and counts characters, not code units", () => {
  const none = sequenceText(undefined, [1], []);
  expect([none.add(3), none.end(), none.length]).toEqual(["", "", 0]);
  const emoji = sequenceText({ decode: (ids) => "🙂".repeat([...ids].length), isByte: () => false }, [], []);
  emoji.add(1);
  emoji.add(1);
  expect(emoji.length).toBe(2);
});
