/** Where the reference library cuts, by pattern and behaviour: what is expected here is what it gave. */
import { describe, expect, it } from "vitest";
import { InputError } from "../../core/errors.js";
import { Matcher } from "./matcher.js";
import { parsePattern } from "./pattern.js";
import { type Behavior, finderOf, split } from "./splitting.js";

const cut = (pattern: object, text: string, behavior: Behavior = "Isolated", invert = false): string[] =>
  [...split(text, finderOf({ fields: { pattern }, where: "a test" }), behavior, invert)].map(
    ({ start, end }) => text.slice(start, end),
  );

describe("patterns", () => {
  it.each<[string, string, string[]]>([
    ["\\s+$", "a  \nb \n", ["a", "  ", "\nb", " \n"]],
    ["a{1,2}+", "aaaaa", ["aaaaa"]],
    ["a{2}?", "aaaaa", ["aa", "aa", "a"]],
    ["a{,2}", "aaaa", ["aa", "aa"]],
    ["^a", "a\na\n", ["a", "\n", "a", "\n"]],
    ["$", "a\n", ["a", "\n"]],
    ["\\Z", "a\n", ["a", "\n"]],
    ["(?i)'s|x", "'ſ X'S", ["'ſ", " ", "X", "'S"]],
    ["(?i:[a-z]+)", "aſK", ["aſK"]],
    ["(?i:\\p{Lu}+)", "aB", ["a", "B"]],
    ["(?i:[\\p{Lu}]+)", "aB", ["aB"]],
    ["a(?i)b|c", "abABC", ["ab", "ABC"]],
    ["(?-i:a)", "aA", ["a", "A"]],
    ["[^\\P{L}a]+", "abc", ["a", "bc"]],
    ["[a-c&&b-z]+", "abcd", ["a", "bc", "d"]],
    ["[[:alpha:]_]+", "a_1", ["a_", "1"]],
    ["\\p{^L}+", "a12b", ["a", "12", "b"]],
    ["\\p{Letter}+", "ab1", ["ab", "1"]],
    ["\\h+", "fg09", ["f", "g", "09"]],
    ["x*", "axxb", ["a", "xx", "b"]],
    ["\\b", "ab cd", ["ab", " ", "cd"]],
    ["(?<=a)b", "ab", ["a", "b"]],
    // White space is Unicode's; letters are those of Unicode 16; a pair of surrogates is one character.
    ["\\s+", "a\u0085\ufeff\u2028", ["a", "\u0085", "\ufeff", "\u2028"]],
    ["\\p{L}+", "é\u088f\u{323b0}日", ["é", "\u088f\u{323b0}", "日"]],
    [".", "😀a", ["😀", "a"]],
    // Repetition comes back to each place that it has been at, groups and lazy ones too.
    ["(?:ab|a)*b", "ababab", ["ababab"]],
    ["(?:a|ab)(?:c|bcd)d*", "abcd", ["abcd"]],
    ["(?:a+)+?b", "aaab", ["aaab"]],
    ["(?:a{1,2}){2}a", "aaaaaa", ["aaaaa", "a"]],
    ["(?:a{2}){1,2}", "aaaaaaa", ["aaaa", "aa", "a"]],
    ["a{0,2}+b", "aaab", ["aaab"]],
    ["(?:(?:ab)+c)+", "ababcabcab", ["ababcabc", "ab"]],
    ["(?>a+)a|b", "aab", ["aa", "b"]],
    ["a++a|b", "aab", ["aa", "b"]],
    ["(?:a?)*b", "aab", ["aab"]],
    ["(?<!a)b|c", "abbc", ["ab", "b", "c"]],
  ])("%s cuts %j", (Regex, text, pieces) => {
    expect(cut({ Regex }, text)).toEqual(pieces);
  });

  it("matches a run of millions of characters, and gives one back", () => {
    const matcher = new Matcher(parsePattern("\\s+(?!\\S)|\\p{L}+", "a test"));
    const text = `${" ".repeat(2_000_000)}x${"一".repeat(2_000_000)}`;
    expect([...matcher.matches(text)].map(({ start }) => start)).toEqual([0, 2_000_000]);
  });

  it("looks behind as far as there can be a match", () => {
    const text = "ab".repeat(100_000);
    expect(cut({ Regex: "(?<=a|bb)b" }, text)).toHaveLength(200_000);
    expect(cut({ Regex: "(?<!ab)b" }, text)).toHaveLength(200_000);
    expect(cut({ Regex: "(?<=a{2,3})b" }, "abaabaaaab")).toEqual(["abaa", "b", "aaaa", "b"]);
  });

  it("tries a run that does not match once", () => {
    const text = `${" ".repeat(1_000_000)}x${"1".repeat(1_000_000)} `;
    expect(cut({ Regex: "\\s+$" }, text).map(({ length }) => length)).toEqual([2_000_001, 1]);
    expect(cut({ Regex: "\\p{N}{1,3}+" }, text).at(-2)).toHaveLength(1_000_000);
    expect(cut({ Regex: "a+b" }, "aaac aab")).toEqual(["aaac ", "aab"]);
  });

  it("looks once at each variant of a character, however deep its set lies in others", () => {
    const deep = `(?i:${"[".repeat(40)}s${"]".repeat(40)})+`;
    expect(cut({ Regex: deep }, "aSſsb")).toEqual(cut({ Regex: "(?i:[s])+" }, "aSſsb"));
  });

  it("says where a group is repeated too often for the stack", () => {
    const text = "ab".repeat(500_000);
    expect(() => cut({ Regex: "(?:ab)+" }, text)).toThrow(InputError);
    expect(() => cut({ Regex: "(?:ab)+" }, text)).toThrow(
      /a test\.pattern\.Regex repeats a group too often to be matched at character 0 of a text of 1000000/,
    );
  });

  it("keeps two texts apart that are looked at in turn", () => {
    const matcher = new Matcher(parsePattern("a+", "a test"));
    const [one, two] = [matcher.matches("aab a"), matcher.matches("ba")];
    expect([one, two, one, two].map((matches) => matches.next().value)).toEqual([
      { start: 0, end: 2 },
      { start: 1, end: 2 },
      { start: 4, end: 5 },
      undefined,
    ]);
  });

  it.each([
    ["(a", /a group without an end/],
    ["a)", /"\)" at character 1 of the pattern "a\)" is not supported/],
    ["\\R", /\\\\R/],
    ["(a)\\1", /\\\\1/],
    ["\\p{Nonsense}", /\\\\p\{Nonsense\}/],
    ["*", /"\*"/],
    ["(?i:stop)", /\(\?i:stop\)/],
    ["(?x:a)", /"\(\?"/],
    ["[b-a]", /an empty range/],
    ["[a", /the end/],
    ["(".repeat(50_000), /more than 100 groups within each other/],
    ["[".repeat(50_000), /more than 100 groups within each other/],
  ])("refuses %s by name", (Regex, message) => {
    expect(() => cut({ Regex }, "a")).toThrow(InputError);
    expect(() => cut({ Regex }, "a")).toThrow(message);
  });
});

describe("behaviours", () => {
  it.each<[Behavior, string[], string[]]>([
    ["Removed", ["a", "b", "c"], ["-", "-", "-", "-", "-", "-", "-"]],
    [
      "Isolated",
      ["-", "-", "a", "-", "-", "b", "-", "c", "-", "-"],
      ["-", "-", "a", "-", "-", "b", "-", "c", "-", "-"],
    ],
    ["MergedWithPrevious", ["-", "-", "a-", "-", "b-", "c-", "-"], ["-", "-a", "-", "-b", "-c", "-", "-"]],
    ["MergedWithNext", ["-", "-a", "-", "-b", "-c", "-", "-"], ["-", "-", "a-", "-", "b-", "c-", "-"]],
    ["Contiguous", ["--", "a", "--", "b", "-", "c", "--"], ["--", "a", "--", "b", "-", "c", "--"]],
  ])("%s", (behavior, pieces, inverted) => {
    expect(cut({ String: "-" }, "--a--b-c--", behavior)).toEqual(pieces);
    expect(cut({ String: "-" }, "--a--b-c--", behavior, true)).toEqual(inverted);
  });
});
