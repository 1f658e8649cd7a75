import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bpeModel } from "./bpe.js";

type Settings = Readonly<Record<string, unknown>>;
const BYTES = [0xc3, 0xa9, 0x21].map((byte) => `<0x${byte.toString(16).toUpperCase()}>`);
const VOCABULARY = [
  "<unk>",
  "a",
  "b",
  "c",
  "ab",
  "abc",
  "aa",
  "##b",
  "a</w>",
  "a##b",
  ...BYTES,
  "<0xC3><0xA9>",
];
const ids = new Map(VOCABULARY.map((token, id) => [token, id]));

function encode(word: string, settings: Settings): string[] {
  const fields = { merges: [["a", "b"], "ab c", ["a", "a"], ["<0xC3>", "<0xA9>"]], ...settings };
  const model = bpeModel({ fields, where: "a test" }, ids);
  return model.encode(word, () => undefined).map((id) => VOCABULARY[id]);
}

describe("bpeModel()", () => {
  it.each<[string, string, Settings, string[]]>([
    ["merges", "aabcab", {}, ["a", "abc", "ab"]],
    ["leaves out what it does not know", "axb", {}, ["ab"]],
    ["marks the unknown", "xya", { unk_token: "<unk>" }, ["<unk>", "<unk>", "a"]],
    ["fuses the unknown", "xyaz", { unk_token: "<unk>", fuse_unk: true }, ["<unk>", "a", "<unk>"]],
    ["falls back to bytes, and merges them", "éa", { byte_fallback: true }, ["<0xC3><0xA9>", "a"]],
    [
      "falls back only where it has all bytes",
      "èé",
      { byte_fallback: true, unk_token: "<unk>" },
      // As the reference library: an unknown character that waits comes behind the bytes.
      ["<0xC3><0xA9>", "<unk>"],
    ],
    ["takes a word that is a token whole", "abc", { ignore_merges: true, merges: [] }, ["abc"]],
    ["knows prefixes", "ab", { continuing_subword_prefix: "##", merges: [] }, ["a", "##b"]],
    ["knows suffixes", "ba", { end_of_word_suffix: "</w>", merges: [] }, ["b", "a</w>"]],
    [
      "cuts the prefix off when it merges",
      "ab",
      { continuing_subword_prefix: "##", merges: [["a", "##b"]] },
      ["ab"],
    ],
    ["makes nothing of nothing", "", { unk_token: "<unk>" }, []],
  ])("%s", (_, word, settings, expected) => {
    expect(encode(word, settings)).toEqual(expected);
  });

  it("merges the lowest rank first, then the leftmost", () => {
    const merges = [["b", "c"], ["a", "a"], ["aa", "bc"], ["a", "bc"], ["bc", "a"], ["abc", "a"]]; // prettier-ignore
    const all = ["a", "b", "c", ...merges.map((pair) => pair.join(""))];
    const vocabulary = new Map(all.map((token, id) => [token, id]));
    const slowly = (word: string): string[] => {
      const parts = [...word];
      for (;;) {
        const ranks = parts.map((part, i) =>
          merges.findIndex(([left, right]) => left === part && right === parts[i + 1]),
        );
        const best = Math.min(...ranks.map((rank) => (rank < 0 ? Infinity : rank)));
        if (best === Infinity) return parts;
        const at = ranks.indexOf(best);
        parts.splice(at, 2, parts[at] + parts[at + 1]);
      }
    };
    const model = bpeModel({ fields: { merges }, where: "a test" }, vocabulary);
    fc.assert(
      fc.property(fc.array(fc.constantFrom("a", "b", "c", "bc", "aaa"), { minLength: 1 }), (parts) => {
        const word = parts.join("");
        expect(model.encode(word, () => undefined).map((id) => all[id])).toEqual(slowly(word));
      }),
      { numRuns: 300, seed: 3 },
    );
  });

  it("looks at four times as many places when the word is four times as long, not sixteen", () => {
    const model = bpeModel({ fields: { merges: [["a", "b"], ["ab", "c"], ["a", "a"]] }, where: "a test" }, ids); // prettier-ignore
    const [short, long] = [30_000, 120_000].map((length) => {
      let places = 0;
      model.encode("aabcabbcaa".repeat(length / 10), () => places++);
      return places;
    });
    expect(long / short).toBeLessThan(5);
  });

  it.each<[Settings, RegExp]>([
    [{ dropout: 0.1 }, /a test\.dropout is 0\.1; wanted null/],
    [{ unk_token: "<none>" }, /a test\.unk_token is "<none>"; wanted a token of model\.vocab/],
    [{ merges: ["a b c"] }, /a test\.merges\[0\] is "a b c"; wanted two tokens/],
    [
      { merges: [["b", "a"]] },
      /a test\.merges\[0\] is \["b","a"\]; wanted tokens of model\.vocab, which has no "ba"/,
    ],
  ])("refuses %j by name", (settings, message) => {
    expect(() => encode("a", settings)).toThrow(message);
  });
});
