import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { EnvironmentError, InputError } from "../core/errors.js";
import { makeWorkDirectory } from "../storage/work-directory.js";
import { numWindows } from "./batches.js";
import { entropyOf, prepareData } from "./prepare.js";
import { loadTokenizer, tokenizerTexts } from "./tokenizer.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-prepare-"));
const cache = (name: string): string => join(folder, `cache ${name}`);
const words = "one small step for a man, one giant leap for mankind. ".repeat(40);
const corpus = join(folder, "corpus.txt");
writeFileSync(corpus, words);
const prepare = (name: string, more: Partial<Parameters<typeof prepareData>[0]> = {}) =>
  prepareData({ corpus, vocabSize: 300, cacheDirectory: cache(name), ...more });

describe("prepareData()", () => {
  it("writes token files that decode to the corpus, once", () => {
    const data = prepare("twice");
    const ids = new Int32Array(data.train.length);
    data.train.read(0, ids);
    const text = data.tokenizer.decode(ids);
    expect(words.startsWith(text.replace("<|endoftext|>", ""))).toBe(true);
    expect(ids.at(-1)).toBe(data.tokenizer.endOfText);
    expect(data.unigramEntropy).toBeGreaterThan(1);
    let asked = 0;
    expect(prepare("twice", { onProgress: () => asked++ }).directory).toBe(data.directory);
    expect(asked).toBe(0);
  });

  it("leaves nothing behind when it is ended in the middle", () => {
    const stop = (): never => {
      throw new Error("stop");
    };
    expect(() => prepare("stopped", { onProgress: stop })).toThrow("stop");
    expect(readdirSync(cache("stopped"))).toEqual([]);
  });

  it("removes what a killed process has left of any data", () => {
    const { directory } = prepare("killed");
    const left = makeWorkDirectory(join(cache("killed"), "0123456789abcdef"));
    const { pid } = spawnSync("true");
    renameSync(left, left.replace(`_${process.pid}_`, `_${pid}_`));
    prepare("killed");
    expect(readdirSync(cache("killed"))).toEqual([basename(directory)]);
  });

  it("can be ended within one long document, in training and in encoding", () => {
    const long = join(folder, "long.txt");
    writeFileSync(long, "ab".repeat(500_000));
    const tokenizer = prepare("twice").directory;
    for (const options of [{ corpus: long }, { corpus: long, tokenizer }]) {
      const shares: number[] = [];
      const onProgress = (_: string, share: number): void => {
        shares.push(share);
        if (shares.length === 3) throw new Error("stop");
      };
      expect(() => prepare("long", { ...options, onProgress })).toThrow("stop");
      expect(shares.every((share) => share < 0.5)).toBe(true);
      expect(readdirSync(cache("long"))).toEqual([]);
    }
  });

  it("makes the same of the same text in any encoding, and refuses what is not text", () => {
    const latin = join(folder, "latin.txt");
    const utf8 = join(folder, "utf8.txt");
    const text = "un été à la crème. ".repeat(50);
    writeFileSync(latin, Buffer.from(text, "latin1"));
    writeFileSync(utf8, `\ufeff${text}`);
    expect(prepare("encodings", { corpus: latin, encoding: "latin1" }).directory).toBe(
      prepare("encodings", { corpus: utf8 }).directory,
    );
    expect(() => prepare("encodings", { corpus: latin })).toThrow(/latin\.txt is not utf-8 text: byte 0xe9/);
  });

  it("says which file of the cache is damaged and what to do", () => {
    const { directory } = prepare("damaged");
    for (const [file, damage] of [
      ["facts.json", (bytes: Buffer) => bytes.subarray(1)],
      ["train.tokens", (bytes: Buffer) => bytes.subarray(0, bytes.length - 2)],
      ["validation.tokens", (bytes: Buffer) => bytes.fill(0, 0, 8)],
    ] as const) {
      const path = join(directory, file);
      const good = readFileSync(path);
      writeFileSync(path, damage(Buffer.from(good)));
      expect(() => prepare("damaged")).toThrow(InputError);
      expect(() => prepare("damaged")).toThrow(file);
      writeFileSync(path, good);
    }
    const data = prepare("damaged");
    const path = join(directory, "train.tokens");
    const bytes = readFileSync(path);
    bytes.writeUInt16LE(60_000, 64 + 10);
    writeFileSync(path, bytes);
    expect(() => data.train.read(0, new Int32Array(16))).toThrow(/train\.tokens is damaged near token 0/);
  });

  const cases: [string, Parameters<typeof prepare>[1], RegExp][] = [
    ["a missing corpus", { corpus: "/nowhere" }, /corpus \/nowhere does not exist/],
    ["an empty name", { corpus: "" }, /does not exist/],
    ["a vocabulary below the bytes", { vocabSize: 100 }, /vocab_size is 100; .* at least 257/],
    [
      "a missing tokenizer",
      { tokenizer: "/nowhere.json" },
      /Cannot read the tokenizer \/nowhere\.json: it does not exist/,
    ],
    ["a tokenizer that is none", { tokenizer: corpus }, /corpus\.txt is not a tokenizer\.json/],
  ];
  it.each(cases)("refuses %s", (_, options, message) => {
    expect(() => prepare("bad", options)).toThrow(InputError);
    expect(() => prepare("bad", options)).toThrow(message);
  });

  it("refuses a tokenizer larger than the model before it encodes anything", () => {
    const { directory, tokenizer } = prepare("large");
    const options = { tokenizer: directory, vocabSize: tokenizer.vocabSize - 1 };
    expect(() => prepare("small", options)).toThrow(
      `The tokenizer has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${options.vocabSize}`,
    );
    expect(() => readdirSync(cache("small"))).toThrow();
  });

  it("keeps what says where texts end beside the tokenizer", () => {
    const { directory } = prepare("plain");
    const given = join(folder, "given");
    mkdirSync(given);
    const json = JSON.parse(readFileSync(join(directory, "tokenizer.json"), "utf8")) as {
      added_tokens: { content: string; id: number }[];
    };
    const [end] = json.added_tokens;
    json.added_tokens.push({ ...end, content: "<|im_end|>", id: end.id + 1 });
    writeFileSync(join(given, "tokenizer.json"), JSON.stringify(json));
    writeFileSync(join(given, "tokenizer_config.json"), JSON.stringify({ eos_token: "<|im_end|>" }));
    const data = prepare("with settings", { tokenizer: given, vocabSize: 400 });
    expect(loadTokenizer(data.directory).endOfText).toBe(loadTokenizer(given).endOfText);
    expect([...tokenizerTexts(data.directory).keys()]).toEqual(["tokenizer.json", "tokenizer_config.json"]);
    expect(data.tokenizer.decode([data.tokenizer.endOfText])).toBe("<|im_end|>");
  });

  it("refuses text shorter than a sequence, and an empty folder", () => {
    expect(() => numWindows(prepare("short").validation, 5000)).toThrow(
      /fewer than one sequence of 5000 \+ 1/,
    );
    mkdirSync(join(folder, "empty"));
    expect(() => prepare("none", { corpus: join(folder, "empty") })).toThrow(/is empty: it holds no text/);
  });

  it("says where it cannot write", () => {
    for (const cacheDirectory of [corpus, join(corpus, "below"), "/proc/nowhere"]) {
      expect(() => prepare("", { cacheDirectory })).toThrow(EnvironmentError);
      expect(() => prepare("", { cacheDirectory })).toThrow(/^Cannot write .*: /);
    }
  });
});

it("entropyOf() is log N for N equal frequencies", () => {
  expect(entropyOf(Float64Array.of(5, 5, 5, 5, 0))).toBeCloseTo(Math.log(4), 12);
});
