import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../../core/errors.js";
import { stopStrings } from "./stop-strings.js";

/** Searches the whole text. */
function slowly(text: string, strings: readonly string[], isIncluded: boolean) {
  for (let start = 0; start < text.length; start++) {
    const here = strings.filter((string) => text.startsWith(string, start));
    if (here.length === 0) continue;
    const length = Math.max(...here.map((string) => string.length));
    return { text: text.slice(0, start + (isIncluded ? length : 0)), isFound: true };
  }
  return { text, isFound: false };
}

/** Some of the strings begins with all of the ending. */
const isBeginning = (ending: string, strings: readonly string[]): boolean =>
  strings.some((string) => string.length > ending.length && string.startsWith(ending));

/** Lengths of the pieces, over and over. */
function cut(text: string, lengths: readonly number[]): string[] {
  const pieces: string[] = [];
  for (let at = 0, i = 0; at < text.length; i++) {
    const length = lengths[i % lengths.length];
    pieces.push(text.slice(at, at + length));
    at += length;
  }
  return pieces;
}

describe("stopStrings()", () => {
  it("finds what a search in the whole text finds, and holds back beginnings of stop strings alone", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "€", "😀"), maxLength: 24, size: "max" });
    const strings = fc.array(
      fc.string({ unit: fc.constantFrom("a", "b", "€", "😀"), minLength: 1, maxLength: 5 }),
      { maxLength: 4 },
    );
    const lengths = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(letters, strings, lengths, fc.boolean(), (text, wanted, sizes, isIncluded) => {
        const stops = stopStrings(wanted, isIncluded);
        let given = "";
        let read = "";
        for (const piece of cut(text, sizes)) {
          given += stops.add(piece);
          if (stops.found !== undefined) break;
          read += piece;
          const held = read.slice(given.length);
          expect(read.startsWith(given)).toBe(true);
          // Of a match that waits for one that begins before, what is held is still the beginning of that one.
          if (held !== "") expect(isBeginning(held, wanted)).toBe(true);
        }
        given += stops.end();
        const expected = slowly(text, wanted, isIncluded);
        expect({ text: given, isFound: stops.found !== undefined }).toEqual(expected);
        if (stops.found !== undefined) expect(wanted).toContain(stops.found);
        expect(stops.add("more")).toBe(stops.found === undefined ? stops.add("") + "more" : "");
      }),
      { numRuns: 2000, seed: 5 },
    );
  });

  it.each<[string, string[], string[], string[], string | undefined]>([
    ["across pieces", ["STOP"], ["one S", "TO", "P two"], ["one ", "", ""], "STOP"],
    ["no further than needed", ["STOP"], ["ST", "AR", "S"], ["", "STAR", ""], undefined],
    ["the one that begins first", ["bc", "abcd"], ["xab", "c", "d"], ["x", "", ""], "abcd"],
    ["what is there when the earlier one fails", ["bc", "abcd"], ["xabc", "e"], ["x", "a"], "bc"],
    ["at once where nothing earlier may come", ["\n", "\n\n"], ["a\n"], ["a"], "\n"],
    ["within itself", ["aab"], ["aa", "aa", "b"], ["", "aa", ""], "aab"],
    ["none", [], ["a", "b"], ["a", "b"], undefined],
  ])("stops %s", (_, strings, pieces, given, found) => {
    const stops = stopStrings(strings);
    expect(pieces.map((piece) => stops.add(piece))).toEqual(given);
    expect(stops.found).toBe(found);
  });

  it("gives what was held back at the end, or stops there after all", () => {
    const held = stopStrings(["STOP"]);
    expect([held.add("a ST"), held.end(), held.found]).toEqual(["a ", "ST", undefined]);
    const within = stopStrings(["bc", "abcd"]);
    expect([within.add("abc"), within.found, within.end(), within.found]).toEqual(["", undefined, "a", "bc"]);
  });

  it("includes the string where asked to, the longest of those that begin there", () => {
    const stops = stopStrings(["\n", "\n\n"], true);
    expect([stops.add("a\n"), stops.add("\nb"), stops.found]).toEqual(["a", "\n\n", "\n\n"]);
    const short = stopStrings(["\n", "\n\n"], true);
    expect([short.add("a\n"), short.end(), short.found]).toEqual(["a", "\n", "\n"]);
  });

  it("refuses strings that no text can end with", () => {
    expect(() => stopStrings(["a", ""])).toThrow(
      new InputError("A stop string is empty; wanted at least one character"),
    );
    expect(() => stopStrings("ab" as never)).toThrow(/^Stop strings are "ab"; wanted a list of texts$/);
    expect(() => stopStrings([5 as never])).toThrow(/^A stop string is 5; wanted a text$/);
    expect(() => stopStrings(["\ud83d"])).toThrow(/^The stop string "\\ud83d" has half of a surrogate pair$/);
  });

  it("takes texts and strings of any length", () => {
    const stops = stopStrings([`${"a".repeat(100_000)}b`]);
    let given = 0;
    for (let i = 0; i < 300_000; i++) given += stops.add("a").length;
    expect(given).toBe(200_000);
    expect([stops.add("b").length, stops.found?.length]).toEqual([0, 100_001]);
  });
});
