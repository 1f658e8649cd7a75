/** Words that the reference library cut. */
import { expect, it } from "vitest";
import { preTokenizer, words } from "./pre-tokenizers.js";

function cut(fields: Record<string, unknown>, text: string, isFirst = true): string[] {
  const { cut, perWord } = preTokenizer({ fields, where: "a test" });
  return [...words(cut, { text, isFirst })].map((word) => perWord(word.text));
}

const metaspace = { type: "Metaspace", replacement: "▁" };

it.each<[Record<string, unknown>, string, string[]]>([
  [{ type: "ByteLevel", add_prefix_space: true }, "a  b's", ["Ġa", "Ġ", "Ġb", "'s"]],
  [{ type: "ByteLevel", add_prefix_space: false, use_regex: false }, "a é", ["aĠÃ©"]],
  [{ type: "ByteLevel", add_prefix_space: false }, "a \u0085\ufeff", ["a", "Ġ", "Âħ", "ï»¿"]],
  [metaspace, " a  b", ["▁a", "▁", "▁b"]],
  [metaspace, "▁ x", ["▁", "▁x"]],
  [{ ...metaspace, split: false }, "a b", ["▁a▁b"]],
  [{ ...metaspace, prepend_scheme: "never" }, "a b", ["a", "▁b"]],
  [{ ...metaspace, add_prefix_space: false }, "a b", ["a", "▁b"]],
  [{ type: "Digits", individual_digits: true }, "a12", ["a", "1", "2"]],
  [{ type: "Digits", individual_digits: false }, "a12", ["a", "12"]],
  [{ type: "Punctuation", behavior: "Contiguous" }, "a..b", ["a", "..", "b"]],
  [{ type: "Whitespace" }, "a\u200db, ..\u0085x", ["a\u200db", ",", "..", "x"]],
  [{ type: "WhitespaceSplit" }, "a, \u0085b\ufeff", ["a,", "b\ufeff"]],
  [{ type: "BertPreTokenizer" }, "it's ..", ["it", "'", "s", ".", "."]],
  [{ type: "CharDelimiterSplit", delimiter: "-" }, "a--b", ["a", "b"]],
  [{ type: "FixedLength", length: 2 }, "ab😀d", ["ab", "😀d"]],
  [
    { type: "Sequence", pretokenizers: [{ type: "ByteLevel", add_prefix_space: false }, metaspace] },
    "a b",
    ["▁a", "▁Ġb"],
  ],
])("%j cuts %j", (fields, text, expected) => {
  expect(cut(fields, text)).toEqual(expected);
});

it("begins only the text with Metaspace's first scheme", () => {
  const first = { ...metaspace, prepend_scheme: "first" };
  expect([cut(first, "a b"), cut(first, "a b", false)]).toEqual([
    ["▁a", "▁b"],
    ["a", "▁b"],
  ]);
});

it.each<[Record<string, unknown>, RegExp]>([
  [{ type: "UnicodeScripts" }, /a test\.type is "UnicodeScripts"; wanted one of ByteLevel, Metaspace/],
  [{ ...metaspace, prepend_scheme: "last" }, /prepend_scheme is "last"; wanted one of first, always, never/],
  [
    { ...metaspace, add_prefix_space: false, prepend_scheme: "first" },
    /prepend_scheme is "first"; wanted never/,
  ],
  [{ ...metaspace, replacement: "ab" }, /replacement is "ab"; wanted one character/],
  [{ type: "Split", pattern: { String: "" }, behavior: "Isolated" }, /pattern\.String is ""; wanted a text/],
  [{ type: "Split", pattern: { String: "a" } }, /behavior is nothing; wanted one of Removed/],
  [{ type: "FixedLength", length: 0 }, /length is 0; wanted 1 or more/],
])("refuses %j by name", (fields, message) => {
  expect(() => preTokenizer({ fields, where: "a test" })).toThrow(message);
});
