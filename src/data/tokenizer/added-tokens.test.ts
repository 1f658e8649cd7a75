import { describe, expect, it } from "vitest";
import { type AddedToken, addedParts, addedTokens, tokenFinder } from "./added-tokens.js";

const token = (id: number, content: string, flags: Partial<AddedToken> = {}): AddedToken => ({
  id,
  content,
  ...{ singleWord: false, stripLeft: false, stripRight: false, normalized: false, special: true },
  ...flags,
});
const found = (tokens: AddedToken[], text: string): (string | number)[] =>
  [...tokenFinder(tokens, (t) => t.content)(text)].map((part) => (typeof part === "string" ? part : part.id));

describe("tokenFinder()", () => {
  it.each<[string, AddedToken[], string, (string | number)[]]>([
    ["the longest of several", [token(1, "ab"), token(2, "abc")], "abcab.", [2, 1, "."]],
    ["the special one of two alike", [token(1, "a", { special: false }), token(2, "a")], "a", [2]],
    ["text as it stands, not a pattern", [token(1, ".[-]$")], "a.[-]$", ["a", 1]],
    [
      "a single word only",
      [token(1, "a", { singleWord: true })],
      "a ab _a éa a\u0301 -a-\u0085a",
      [1, " ab _a éa a\u0301 -", 1, "-\u0085", 1],
    ],
    ["a word after a letter beyond 16 bits", [token(1, "a", { singleWord: true })], "𐐀a 😀a", ["𐐀a 😀", 1]],
    // To the reference library these are no letters yet.
    ["a word after a letter of Unicode 17", [token(1, "a", { singleWord: true })], "\u088fa", ["\u088f", 1]],
    ["white space before", [token(1, "a", { stripLeft: true })], " \u0085a a", [1, 1]],
    ["white space behind", [token(1, "a", { stripRight: true })], "a\u3000a \ufeff", [1, 1, "\ufeff"]],
    ["nothing", [], "a", ["a"]],
    ["nothing in nothing", [token(1, "a")], "", []],
  ])("finds %s", (_, tokens, text, expected) => {
    expect(found(tokens, text)).toEqual(expected);
  });
});

describe("addedTokens()", () => {
  it("gives the ids that the reference library gives, whatever the file says", () => {
    const parts = addedParts(
      [
        { id: 20, content: "<x>", special: true },
        { id: 7, content: "b" },
        { id: 9, content: "<y>", lstrip: true },
        { id: 4, content: "" },
        { id: 5, content: "<x>", special: true, rstrip: true },
      ],
      "a test",
    );
    const vocabulary = { size: 3, idOf: (content: string) => (content === "b" ? 1 : undefined) };
    expect(addedTokens(parts, vocabulary)).toEqual([
      token(3, "<x>", { stripRight: true }),
      token(1, "b", { special: false, normalized: true }),
      token(4, "<y>", { stripLeft: true, special: false, normalized: true }),
    ]);
  });

  it("refuses flags that are none by name", () => {
    const parts = addedParts([{ content: "a", lstrip: "yes" }], "a test");
    expect(() => addedTokens(parts, { size: 0, idOf: () => undefined })).toThrow(
      /a test: added_tokens\[0\]\.lstrip is "yes"; wanted true or false/,
    );
  });
});
