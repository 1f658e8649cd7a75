import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BYTE_CHARACTERS, type BpeModel, BpeTokenizer, END_OF_TEXT, trainBpe } from "./bpe.js";
import { readCorpus } from "./corpus.js";
import { MergeTable } from "./merge-table.js";
import { PairCounts } from "./pair-counts.js";
import { endOfPreToken } from "./pre-tokens.js";
import { isLetter, isNumber } from "./tokenizer/unicode.js";
import { WordMerger } from "./word-merger.js";

/** With Unicode's white space: JavaScript's takes U+FEFF for some, and U+0085 for none. */
const PRE_TOKEN =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

const byteCharacters = (text: string) =>
  [...new TextEncoder().encode(text)].map((byte) => BYTE_CHARACTERS[byte]);

/** What a tokenizer is defined to do, in the slowest way: the lowest rank, of equal ones the leftmost, one by one. */
function mergeSlowly({ merges }: BpeModel, word: string): string[] {
  const ranks = new Map(merges.map(([a, b], rank) => [`${a} ${b}`, rank]));
  const parts = byteCharacters(word);
  for (;;) {
    let [best, at] = [Infinity, -1];
    for (let i = 0; i + 1 < parts.length; i++) {
      const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
      if (rank < best) [best, at] = [rank, i];
    }
    if (at < 0) return parts;
    parts.splice(at, 2, parts[at] + parts[at + 1]);
  }
}

/** Training in the slowest way: counts anew after every merge; ties go to the pair seen first. */
function trainSlowly(texts: readonly string[], merges: number): [string, string][] {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const [word] of text.matchAll(PRE_TOKEN)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const words = [...counts].map(([word, count]) => ({ parts: byteCharacters(word), count }));
  const seen = new Map<string, [string, string]>();
  const out: [string, string][] = [];
  while (out.length < merges) {
    const frequency = new Map<string, number>();
    for (const { parts, count } of words)
      for (let i = 0; i + 1 < parts.length; i++) {
        const key = `${parts[i]} ${parts[i + 1]}`;
        if (!seen.has(key)) seen.set(key, [parts[i], parts[i + 1]]);
        frequency.set(key, (frequency.get(key) ?? 0) + count);
      }
    const most = Math.max(0, ...frequency.values());
    const key = [...seen.keys()].find((pair) => frequency.get(pair) === most);
    if (key === undefined) break;
    const [a, b] = seen.get(key) as [string, string];
    out.push([a, b]);
    for (const { parts } of words)
      for (let i = 0; i + 1 < parts.length; i++)
        if (parts[i] === a && parts[i + 1] === b) parts.splice(i, 2, a + b);
  }
  return out;
}

/** A tokenizer with the merges given and a token for each. */
function modelOf(merges: readonly (readonly [string, string])[]): BpeModel {
  const tokens = new Set([...BYTE_CHARACTERS, ...merges.map(([a, b]) => a + b), END_OF_TEXT]);
  return { merges, vocabulary: new Map([...tokens].map((token, id) => [token, id])) };
}

/** Runs, few letters, and what is special to a scanner. */
const parts = fc.constantFrom(
  "a",
  "b",
  "ab",
  "aaaa",
  "c",
  " ",
  "'s",
  "'ll",
  "\n",
  "é",
  "日",
  "🧑",
  "\ud800",
  "1",
  "!",
);
const text = fc.array(parts, { maxLength: 60 }).map((list) => list.join(""));
/** Merges in any order: a later one may make what an earlier one waits for, or what another has made already. */
const anyMerges = fc.array(fc.tuple(fc.nat(1000), fc.nat(1000)), { maxLength: 14 }).chain((picks) => {
  const tokens = ["a", "b", "c", "Ã"];
  const merges = picks.map(([i, j]): [string, string] => {
    const pair: [string, string] = [tokens[i % tokens.length], tokens[j % tokens.length]];
    if (!tokens.includes(pair.join(""))) tokens.push(pair.join(""));
    return pair;
  });
  return fc.shuffledSubarray(merges, { minLength: merges.length });
});

const random = (length: number): string => {
  let x = 123456789;
  return Array.from({ length }, () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return String.fromCharCode(97 + ((x >>> 0) % 26));
  }).join("");
};

describe("endOfPreToken()", () => {
  const any = fc.array(
    fc.oneof(parts, fc.string({ unit: "binary" }), fc.constantFrom("\ufeff", "\u0085", "\u2028", "\t ")),
  );
  it("cuts where GPT-2's regular expression does", () => {
    fc.assert(
      fc.property(any, (list) => {
        // What is a letter only in later editions of Unicode is none to pre-tokens.
        const s = list.join("").replace(/[\p{L}\p{N}]/gu, (c) => {
          const codePoint = c.codePointAt(0) as number;
          return isLetter(codePoint) || isNumber(codePoint) ? c : c.length === 1 ? "!" : "🧑";
        });
        const cut: string[] = [];
        for (let at = 0; at < s.length; at += cut[cut.length - 1].length)
          cut.push(s.slice(at, endOfPreToken(s, at, s.length)));
        expect(cut).toEqual(s.match(PRE_TOKEN) ?? []);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("encoding", () => {
  it("merges the lowest rank first, then the leftmost, whatever the merges", () => {
    fc.assert(
      fc.property(anyMerges, text, (merges, s) => {
        const model = modelOf(merges);
        const expected = (s.match(PRE_TOKEN) ?? []).flatMap((word) => mergeSlowly(model, word));
        expect(new BpeTokenizer(model).encode(s)).toEqual(
          expected.map((token) => model.vocabulary.get(token)),
        );
      }),
      { numRuns: 500 },
    );
  });

  it("does the same in groups of ranks, as for words too long for one queue", () => {
    const word = fc.array(fc.constantFrom("a", "b", "c", "aaa", "é"), { minLength: 8, maxLength: 80 });
    fc.assert(
      fc.property(anyMerges, word, (merges, list) => {
        const model = modelOf(merges);
        const table = new MergeTable(model);
        const symbols = [...new WordMerger(table, 4).symbols(list.join(""), () => undefined)];
        expect(symbols.map((symbol) => table.tokens[symbol])).toEqual(mergeSlowly(model, list.join("")));
      }),
      { numRuns: 1000 },
    );
  });

  it("hands out long texts in pieces, the special token among them", () => {
    const model = trainBpe(["the cat and the hat"], 270);
    const tokenizer = new BpeTokenizer(model);
    const s = `${END_OF_TEXT}${"the hat ".repeat(20_000)}${END_OF_TEXT}${END_OF_TEXT}${"a".repeat(40_000)}`;
    const pieces = [...tokenizer.encodePieces(s)];
    expect(pieces.flatMap((piece) => [...piece])).toEqual(tokenizer.encode(s));
    expect(tokenizer.encode(s).filter((id) => id === tokenizer.endOfText)).toHaveLength(3);
    expect(tokenizer.decode(tokenizer.encode(s))).toBe(s);
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThan(20_000);
  });
});

describe("training", () => {
  it("finds the merges that counting anew finds, ties and runs included", () => {
    fc.assert(
      fc.property(fc.array(text, { maxLength: 4 }), (texts) => {
        expect(trainBpe(texts, 257 + 25).merges).toEqual(trainSlowly(texts, 25));
      }),
      { numRuns: 200 },
    );
  });

  it("makes of ordinary text the tokenizer it has always made", () => {
    const { merges } = trainBpe(readCorpus("sotu").train.slice(0, 12), 2048);
    const digest = createHash("sha256").update(JSON.stringify(merges)).digest("hex");
    expect(digest.slice(0, 16)).toBe("192e37753c6de6aa");
  });
});

describe("on text of one long word", () => {
  it.each([
    ["one letter", "a".repeat(2_000_000)],
    ["white space", " ".repeat(2_000_000)],
    ["an emoji", "🧑".repeat(500_000)],
    ["letters", random(300_000)],
  ])("of %s, trains and gives the text back, and reports often", (_, s) => {
    let calls = 0;
    let last = 0;
    const onProgress = (share: number): void => {
      calls++;
      expect(share).toBeGreaterThanOrEqual(last);
      expect(share).toBeLessThanOrEqual(1);
      last = share;
    };
    const tokenizer = new BpeTokenizer(trainBpe([s], 300, onProgress));
    expect(calls).toBeGreaterThan(s.length / 200_000);
    calls = last = 0;
    const ids = [...tokenizer.encodePieces(s, onProgress)].flatMap((piece) => [...piece]);
    expect(calls).toBeGreaterThan(s.length / 200_000);
    expect(tokenizer.decode(ids)).toBe(s);
  });

  it("ends when progress throws", () => {
    const s = random(300_000);
    const stop = (): never => {
      throw new Error("stop");
    };
    expect(() => trainBpe([s], 300, stop)).toThrow("stop");
    const tokenizer = new BpeTokenizer(trainBpe([s.slice(0, 1000)], 300));
    expect(() => [...tokenizer.encodePieces(s, stop)]).toThrow("stop");
    expect(tokenizer.encode("still works")).toEqual(new BpeTokenizer(tokenizer.model).encode("still works"));
  });

  it("looks at four times as many places when the text is four times as long, not sixteen", () => {
    const model = trainBpe([random(30_000)], 800);
    const table = new MergeTable(model);
    const counts = [30_000, 120_000].map((length) => {
      let [training, encoding] = [0, 0];
      const pairs = new PairCounts([[random(length), 1]], () => training++);
      for (let i = 0; i < 500; i++) pairs.merge(pairs.best() as NonNullable<ReturnType<typeof pairs.best>>);
      for (const _ of new WordMerger(table).symbols(random(length), () => encoding++)) continue;
      return { training, encoding };
    });
    expect(counts[1].training / counts[0].training).toBeLessThan(5);
    expect(counts[1].encoding / counts[0].encoding).toBeLessThan(5);
  });
});
