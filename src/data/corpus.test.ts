import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { holdOut, readCorpus } from "./corpus.js";
import { readEncoded } from "./encoding.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-corpus-"));
let files = 0;
const save = (content: string | Uint8Array, name = `${files++}.txt`): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const directory = (tree: Readonly<Record<string, string>>): string => {
  const root = mkdtempSync(join(folder, "tree-"));
  for (const [path, content] of Object.entries(tree)) {
    mkdirSync(join(root, path, ".."), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
};
const bytes = (...parts: (string | number)[]) =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.of(part))));

describe("readEncoded()", () => {
  it.each<[string, Buffer, string | undefined, string]>([
    ["UTF-8", bytes("café 🧑"), undefined, "café 🧑"],
    ["UTF-8 with a byte-order mark, which is dropped", bytes("\ufeffcafé"), undefined, "café"],
    ["UTF-8 with two of them, one of which is text", bytes("\ufeff\ufeffa"), "utf-8", "\ufeffa"],
    ["nothing", bytes(), undefined, ""],
    ["latin1", bytes("caf", 0xe9), "latin1", "café"],
    ["UTF-16, little end first", Buffer.from("\ufeffcafé 🧑", "utf16le"), "utf-16le", "café 🧑"],
    ["UTF-16, big end first", Buffer.from("é🧑", "utf16le").swap16(), "utf-16be", "é🧑"],
    ["Shift JIS", bytes(0x93, 0xfa, 0x96, 0x7b), "shift_jis", "日本"],
  ])("decodes %s", (_, content, encoding, expected) => {
    expect(readEncoded(save(content), encoding)).toBe(expected);
  });

  it.each<[string, Buffer, string | undefined, RegExp]>([
    [
      "latin1 as UTF-8",
      bytes("caf", 0xe9, " au"),
      undefined,
      /not utf-8 text: byte 0xe9 at offset 3; .*such as latin1/,
    ],
    ["a damaged byte far in", bytes("é".repeat(99_999), 0xff, "é"), undefined, /byte 0xff at offset 199998;/],
    [
      "a character that is cut off",
      bytes("ok ", 0xf0, 0x9f),
      undefined,
      /byte 0xf0 at offset 3, where the file ends within/,
    ],
    ["a surrogate in UTF-8", bytes("a", 0xed, 0xa0, 0x80), undefined, /byte 0xed at offset 1;/],
    [
      "UTF-16 as UTF-8",
      Buffer.from("\ufeffhi", "utf16le"),
      undefined,
      /begins like utf-16le: set .* to utf-16le/,
    ],
    ["UTF-16 of odd length", bytes("h", 0, "i"), "utf-16le", /not utf-16le text: byte 0x69 at offset 2/],
    ["UTF-16 with half a pair", Buffer.from("a\ud800b", "utf16le"), "utf-16le", /at offset 2;/],
    ["UTF-8 as UTF-16", bytes("a été"), "utf-16le", /not utf-16le text: .*; it is utf-8/],
  ])("refuses %s in one line", (_, content, encoding, message) => {
    const path = save(content);
    expect(() => readEncoded(path, encoding)).toThrow(InputError);
    expect(() => readEncoded(path, encoding)).toThrow(message);
    expect(() => readEncoded(path, encoding)).toThrow(path);
  });

  it("names the first byte that no text begins with", () => {
    const some = fc.array(
      fc.oneof(
        fc.constantFrom(..."aé日🧑").map((c) => Buffer.from(c)),
        fc.uint8Array({ maxLength: 3 }),
      ),
    );
    fc.assert(
      fc.property(some, (list) => {
        const content = Buffer.concat(list);
        // What a decoder replaces first, in bytes of what stands before.
        const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(content);
        const at = text.indexOf("\ufffd");
        const genuine = content.indexOf("\ufffd");
        fc.pre(genuine < 0 && !content.subarray(0, 3).equals(Buffer.from("\ufeff")));
        const path = save(content, "any.txt");
        if (at < 0) expect(readEncoded(path)).toBe(text);
        else expect(() => readEncoded(path)).toThrow(`at offset ${Buffer.byteLength(text.slice(0, at))}`);
      }),
      { numRuns: 100 },
    );
  });
});

describe("readCorpus()", () => {
  const nine = "one two three four five";
  it("reads text files below a directory too, by path, and says once what it leaves out", () => {
    const root = directory({
      "b.txt": "3",
      "a/z.txt": "2",
      "a/deep/er/1.txt": "1",
      "c/4.txt": "4",
      "a/notes.md": "no",
      README: "no",
    });
    symlinkSync("..", join(root, "a", "up"));
    symlinkSync(root, join(root, "c", "loop"));
    const said: string[] = [];
    const { train, validation } = readCorpus(root, { say: (line) => said.push(line) });
    expect([train, validation]).toEqual([["1", "2", "3"], ["4"]]);
    expect(said).toEqual([
      `Corpus ${root}: .txt files that are read: 4; not read, files with other names: 2 (README, …)`,
    ]);
  });

  it("refuses a directory without text files, with what it found", () => {
    const root = directory({ "a/book.md": nine });
    expect(() => readCorpus(root)).toThrow(
      /holds no \.txt files; files with other names: 1 \(a\/book\.md\); rename/,
    );
    expect(() => readCorpus(directory({}))).toThrow(/is empty: it holds no text/);
  });

  it("names what cannot be read", () => {
    const root = directory({ "a/1.txt": nine });
    symlinkSync("nowhere", join(root, "a", "2.txt"));
    expect(() => readCorpus(root)).toThrow(
      `Cannot read the corpus ${join(root, "a/2.txt")}: it does not exist`,
    );
  });

  it.each(["sotu", save(nine)])("refuses an encoding that is unknown, with a suggestion: %s", (source) => {
    expect(() => readCorpus(source, { encoding: "latn1" })).toThrow(InputError);
    expect(() => readCorpus(source, { encoding: "latn1" })).toThrow(
      /"latn1"; did you mean "latin1"\? \(known: utf-8,/,
    );
  });
});

describe("holdOut()", () => {
  it("cuts no character in two", () => {
    const text = "🧑".repeat(7);
    const { train, validation } = holdOut([text]);
    expect([train[0].length % 2, train[0] + validation[0]]).toEqual([0, text]);
  });

  it("keeps few documents apart, and holds out the last tenth of their text", () => {
    const documents = ["a".repeat(50), "b".repeat(30), "c".repeat(20)];
    expect(holdOut(documents)).toEqual({
      train: [documents[0], documents[1], "c".repeat(10)],
      validation: ["c".repeat(10)],
    });
  });
});
