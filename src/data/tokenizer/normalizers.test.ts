/** What the reference library made of these texts. */
import { expect, it } from "vitest";
import { InputError } from "../../core/errors.js";
import { normalizer } from "./normalizers.js";

const normalized = (fields: Record<string, unknown>, text: string): string =>
  normalizer({ fields, where: "a test" })(text);

it.each<[Record<string, unknown>, string, string]>([
  [{ type: "NFC" }, "e\u0301\u1100\u1161", "é가"],
  [{ type: "NFD" }, "é", "e\u0301"],
  [{ type: "NFKC" }, "ﬁ①㍿", "fi1株式会社"],
  [{ type: "NFKD" }, "Å", "A\u030a"],
  // What Unicode 9 did not know neither combines nor lets marks pass.
  [{ type: "NFC" }, "\u{105d2}\u0307", "\u{105d2}\u0307"],
  [{ type: "NFD" }, "\u{11938}", "\u{11938}"],
  [{ type: "NFKC" }, "㋿", "㋿"],
  [{ type: "NFD" }, "a\u08ca\u0334\u0301\u0327", "a\u08ca\u0334\u0327\u0301"],
  [{ type: "Lowercase" }, "ΑΣ İ", "ας i\u0307".replace("ς", "σ")],
  [{ type: "Strip", strip_left: true, strip_right: false }, "\u0085\u3000a ", "a "],
  [{ type: "Strip", strip_left: true, strip_right: true }, "\ufeff a \u2028", "\ufeff a"],
  [{ type: "StripAccents" }, "e\u0301\u1cf2\u08ca", "e\u08ca"],
  [{ type: "Prepend", prepend: "_" }, "a", "_a"],
  [{ type: "Prepend", prepend: "_" }, "", ""],
  [{ type: "Replace", pattern: { String: "a" }, content: "$0$&" }, "aba", "$0$&b$0$&"],
  [{ type: "Replace", pattern: { Regex: "a*" }, content: "X" }, "baac", "XbXcX"],
  [{ type: "ByteLevel" }, "é ", "Ã©Ġ"],
  [{ type: "BertNormalizer", lowercase: false, strip_accents: null }, "É\u0007 一", "É  一 "],
  [{ type: "BertNormalizer" }, "Éa", "ea"],
  [{ type: "Sequence", normalizers: [{ type: "Lowercase" }, { type: "Prepend", prepend: "A" }] }, "B", "Ab"],
])("%j of %j", (fields, text, expected) => {
  expect(normalized(fields, text)).toBe(expected);
});

it.each<[Record<string, unknown>, RegExp]>([
  [{ type: "Precompiled" }, /a test\.type is "Precompiled"; wanted one of NFC, NFD/],
  [{ type: "toString" }, /a test\.type is "toString"/],
  [{ type: "Strip" }, /a test\.strip_left is nothing; wanted true or false/],
  [{ type: "Replace", content: "" }, /a test\.pattern is nothing; wanted an object/],
  [{ type: "Replace", pattern: {}, content: "" }, /a test\.pattern is \{\}; wanted String or Regex/],
  [
    { type: "Sequence", normalizers: [{ type: "NFC" }, 1] },
    /a test\.normalizers\[1\] is 1; wanted an object/,
  ],
])("refuses %j by name", (fields, message) => {
  expect(() => normalizer({ fields, where: "a test" })).toThrow(InputError);
  expect(() => normalizer({ fields, where: "a test" })).toThrow(message);
});
