/** What the reference library made of these tokens. */
import { expect, it } from "vitest";
import { decoder } from "./decoders.js";

it.each<[Record<string, unknown>, string[], string[]]>([
  [{ type: "ByteLevel" }, ["Ã", "©", "<|é|>", "Ġa"], ["é<|\ufffd|> a"]],
  [{ type: "ByteLevel" }, ["ï»¿", "▁"], ["\ufeff▁"]],
  [
    { type: "ByteFallback" },
    ["<0x+F>", "<0xE4>", "<0xe4>", "a", "<0xE4>", "<0xB8>", "<0x80>", "b", "<0x80>", "<0x00"],
    ["\ufffd\ufffd\ufffd", "a", "一", "b", "\ufffd", "<0x00"],
  ],
  // Text before a byte that is none is lost with it.
  [{ type: "ByteFallback" }, ["<0xC3>", "<0xA9>", "<0xFF>"], ["\ufffd\ufffd\ufffd"]],
  [{ type: "Fuse" }, ["a", "b"], ["ab"]],
  [{ type: "Replace", pattern: { Regex: "a+" }, content: "-" }, ["baac", "aa"], ["b-c", "-"]],
  [{ type: "Strip", content: " ", start: 1, stop: 0 }, ["  a  ", " ", " b"], [" a  ", "", "b"]],
  [{ type: "Strip", content: "a", start: 0, stop: 1 }, ["bé", "caa", "xaaa"], ["bé", "ca", "xaa"]],
  [{ type: "Strip", content: "a", start: 2, stop: 2 }, ["aabaa", "abaaa"], ["b", "ba"]],
  [{ type: "Metaspace", replacement: "▁", prepend_scheme: "first" }, ["▁▁a", "▁b"], ["a", " b"]],
  [{ type: "Metaspace", replacement: "▁", prepend_scheme: "never" }, ["▁▁a", "▁b"], ["  a", " b"]],
  [{ type: "Metaspace", replacement: "_", add_prefix_space: false }, ["_a"], [" a"]],
  [
    { type: "WordPiece", prefix: "##", cleanup: true },
    ["##a", "b", "##c", " .", "n't"],
    ["##a", " b", "c", " .", "n't"],
  ],
  [{ type: "BPEDecoder", suffix: "</w>" }, ["a</w>", "b", "c</w>"], ["a ", "b", "c"]],
  [{ type: "Sequence", decoders: [{ type: "Fuse" }, { type: "ByteFallback" }] }, ["<0x4", "1>"], ["A"]],
])("%j of %j", (fields, tokens, expected) => {
  expect(decoder({ fields, where: "a test" })(tokens)).toEqual(expected);
});

it("refuses what it does not know by name", () => {
  expect(() => decoder({ fields: { type: "CTC" }, where: "a test" })).toThrow(
    /a test\.type is "CTC"; wanted one of ByteLevel, ByteFallback/,
  );
});
