/** `scmoe verify` on tokenizers: the ids and texts that the reference library gave (`test/fixtures/tokenizer/make.py`). */
import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { verifyTokenizer } from "../src/data/verify-tokenizer.js";
import { loadTokenizer } from "../src/data/tokenizer.js";
import { scmoe, temporaryDirectory } from "./helpers.js";

const FIXTURES = new URL("fixtures/tokenizer", import.meta.url).pathname;
const kinds = readdirSync(FIXTURES).filter((name) => !name.includes("."));
const directory = temporaryDirectory();
afterAll(() => {
  rmSync(directory, { recursive: true });
});

describe.each(kinds)("a tokenizer of the kind %s", (kind) => {
  it("has the ids and texts of the reference library", () => {
    const report = verifyTokenizer(join(FIXTURES, kind));
    expect(report.differences).toEqual([]);
    expect(report).toMatchObject({ cases: 60, equalIds: 60, equalTexts: 60, passed: true });
    expect(report.specialTokens).toBe(kind === "llama2" || kind === "llama3");
  });

  it("hands out a long text in pieces, and says how far it is", () => {
    const tokenizer = loadTokenizer(join(FIXTURES, kind));
    const { text } = (
      JSON.parse(readFileSync(join(FIXTURES, kind, "cases.json"), "utf8")) as { text: string }[]
    )[7];
    const long = `${text.repeat(10)}\n${"a nation ".repeat(16_000)}`;
    let last = 0;
    const pieces = [
      ...tokenizer.encodePieces(long, (share) => {
        expect(share).toBeGreaterThanOrEqual(last);
        expect(share).toBeLessThanOrEqual(1);
        last = share;
      }),
    ];
    expect(last).toBeGreaterThan(0);
    expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThan(20_000);
    expect(pieces.map((piece) => Array.from(piece).join()).join()).toBe(tokenizer.encode(long).join());
  });
});

describe("scmoe verify", () => {
  it("counts what is equal, shows what is not, and says so by its exit code", () => {
    const changed = join(directory, "changed");
    cpSync(join(FIXTURES, "llama3"), changed, { recursive: true });
    const file = join(changed, "cases.json");
    const cases = JSON.parse(readFileSync(file, "utf8")) as {
      text: string;
      ids: number[];
      decoded: string;
    }[];
    cases[3].ids.push(5);
    cases[9].decoded += "é";
    writeFileSync(file, JSON.stringify(cases));
    const good = scmoe(["verify", join(FIXTURES, "llama3")], directory);
    expect(good).toMatchObject({ code: 0 });
    expect(good.stdout).toMatch(/ids equal in 60 of 60 cases, special tokens around them included\n/);
    const bad = scmoe(["verify", changed], directory);
    expect(bad).toMatchObject({ code: 1 });
    expect(bad.stdout).toMatch(/ids equal in 59 of 60 cases.*\ndecoded text equal in 58 of 60 cases\n/);
    expect(bad.stdout).toMatch(/case 3, text "[ -~]*"…?: ids .*\n/);
    expect(bad.stdout).toMatch(/case 9, text "[ -~]*"…?: decoded text .*, wanted .*\\u00e9"\nFAILED/);
  });

  it.each([
    ["[", /cases\.json is not JSON/],
    ["{}", /cases\.json is \{\}; wanted a list of cases/],
    ['[{"text":"a","ids":[1.5],"decoded":""}]', /case 0 is .*; wanted text, ids and decoded text/],
  ])("refuses cases that are %s", (content, message) => {
    const broken = join(directory, "broken");
    cpSync(join(FIXTURES, "gpt2"), broken, { recursive: true });
    writeFileSync(join(broken, "cases.json"), content);
    expect(() => verifyTokenizer(broken)).toThrow(message);
  });
});
