import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tokenizer as HuggingFace } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { BYTE_CHARACTERS, BpeTokenizer, END_OF_TEXT, trainBpe } from "./bpe.js";
import { readCorpus } from "./corpus.js";
import { readPipeline } from "./tokenizer/pipeline.js";
import { bpeToJson, encodePrompt, loadTokenizer } from "./tokenizer.js";

const corpus = readCorpus("sotu").train.slice(0, 12);
const model = trainBpe(corpus, 600);
const own = new BpeTokenizer(model);
const folder = mkdtempSync(join(tmpdir(), "scmoe-tokenizer-"));
const save = (json: unknown, name: string): string => {
  const path = join(folder, name);
  writeFileSync(path, typeof json === "string" ? json : JSON.stringify(json));
  return path;
};

/** Text as the world has it: scripts, emoji, marks, controls, white space, a byte-order mark, our own special token. */
const text = fc
  .array(
    fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.string({ unit: "binary" }),
      fc.constantFrom(
        "the ",
        " it's",
        "\r\n\t  ",
        "\ufeff",
        "12 345",
        END_OF_TEXT,
        "\u0085",
        "한국어",
        "🧑‍🚀",
        "\0",
      ),
    ),
  )
  .map((parts) => parts.join(""));

describe("our own byte-level BPE", () => {
  it("gives back any text", () => {
    fc.assert(
      fc.property(text, (s) => own.decode(own.encode(s)) === s),
      { numRuns: 500 },
    );
  });

  it("makes the ids and the text that the stages of its tokenizer.json make", () => {
    const stages = readPipeline(bpeToJson(model) as Record<string, unknown>, {}, "a test");
    fc.assert(
      fc.property(text, fc.array(fc.nat(own.vocabSize + 2)), (s, ids) => {
        expect(own.encode(s)).toEqual(stages.encode(s));
        expect(own.decode(ids)).toBe(stages.decode(ids));
      }),
      { numRuns: 500 },
    );
    expect(own.encode(corpus[0])).toEqual(stages.encode(corpus[0]));
  });

  it("decodes any ids, cut characters included, without failing", () => {
    fc.assert(fc.property(fc.array(fc.nat(own.vocabSize - 1)), (ids) => typeof own.decode(ids) === "string"));
  });

  it("compresses the corpus it was trained on, with every merge used", () => {
    const ids = own.encode(corpus[0]);
    expect(ids.length).toBeLessThan(new TextEncoder().encode(corpus[0]).length / 2);
    expect(model.vocabulary.size).toBe(600);
  });

  it("needs room for the bytes", () => {
    expect(() => trainBpe(["a"], 256)).toThrow(/256 tokens is too small.*at least 257/);
  });
});

describe("loadTokenizer()", () => {
  const base = bpeToJson(model) as { model: Record<string, unknown> & { vocab: Record<string, number> } };
  const llama = {
    type: "Split",
    pattern: { Regex: "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+|\\s+" },
    behavior: "Isolated",
    invert: false,
  };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  const added = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const unigram = {
    type: "Unigram",
    unk_id: 0,
    vocab: [
      ["<unk>", 0],
      ["</s>", 0],
      ["▁", -2],
      ...[..."abcdefghijklmnopqrstuvwxyz"].map((c) => [c, -5]),
      ["▁the", -3],
      ["▁na", -3.5],
      ["tion", -4],
    ],
  };
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true };
  const foreign: Record<string, unknown> = {
    "another pre-tokenizer": {
      ...base,
      pre_tokenizer: { type: "Sequence", pretokenizers: [llama, byteLevel] },
    },
    "a prefix space": { ...base, pre_tokenizer: { ...byteLevel, use_regex: true, add_prefix_space: true } },
    "added tokens": {
      ...base,
      added_tokens: [added(599, END_OF_TEXT), added(600, "<|user|>"), added(601, "<|assistant|>")],
    },
    "ignored merges": { ...base, model: { ...base.model, ignore_merges: true } },
    Unigram: {
      ...base,
      model: unigram,
      added_tokens: [added(1, "</s>")],
      pre_tokenizer: metaspace,
      decoder: metaspace,
    },
  };

  it.each(Object.entries(foreign))("with %s gives Hugging Face's ids", (name, json) => {
    const loaded = loadTokenizer(save(json, `${name}.json`));
    const reference = new HuggingFace(json as object, {});
    for (const sample of ["the nation", " the  nation's 12345 ", "<|user|>the<|assistant|>", "été 🧑‍🚀", ""])
      expect(loaded.encode(sample)).toEqual([...reference.encode(sample, { add_special_tokens: false }).ids]);
    expect(loaded.decode(loaded.encode("the nation")).trim()).toBe("the nation");
    expect(loaded.decode([])).toBe("");
    expect(loaded.endOfText).toBe(name === "Unigram" ? 1 : 599);
    expect(loaded.vocabSize).toBe(
      name === "Unigram" ? unigram.vocab.length : name === "added tokens" ? 602 : 600,
    );
  });

  it("takes merges in either spelling", () => {
    const merges = model.merges.map((pair) => pair.join(" "));
    const loaded = loadTokenizer(save({ ...base, model: { ...base.model, merges } }, "old.json"));
    expect(loaded.encode(corpus[0])).toEqual(own.encode(corpus[0]));
  });

  it("loads a vocabulary of 150,000 more tokens, ours and another's", () => {
    const vocab = { ...base.model.vocab };
    for (let i = 0; i < 150_000; i++) vocab[`token ${i}`] = 600 + i;
    const large = { ...base, model: { ...base.model, vocab } };
    const other = { ...large, pre_tokenizer: { ...byteLevel, use_regex: true, add_prefix_space: true } };
    for (const json of [large, other]) {
      const loaded = loadTokenizer(save(json, "large.json"));
      expect(loaded.vocabSize).toBe(150_600);
      expect(loaded.decode(loaded.encode("the nation")).trim()).toBe("the nation");
    }
  });

  const template = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    special_tokens: { "<s>": { id: "<s>", ids: [600], tokens: ["<s>"] } },
  };
  const begun = { ...base, added_tokens: [added(599, END_OF_TEXT), added(600, "<s>")] };

  it.each<[string, object, object | undefined, number[], number]>([
    ["nothing", begun, undefined, [], 599],
    ["what the post processor says", { ...begun, post_processor: template }, undefined, [600], 599],
    ["what the settings say", begun, { add_bos_token: true, bos_token: { content: "<s>" } }, [600], 599],
    ["nothing that is not wanted", begun, { add_bos_token: false, bos_token: "<s>" }, [], 599],
    [
      "what the post processor says, before the settings",
      { ...begun, post_processor: { ...template, single: template.single.slice(1) } },
      { add_bos_token: true, bos_token: "<s>", eos_token: "<s>" },
      [],
      600,
    ],
    [
      "what the settings say, of our own kind",
      base,
      { add_bos_token: true, bos_token: END_OF_TEXT },
      [599],
      599,
    ],
  ])("puts %s before a prompt, once", (_, json, config, beginning, end) => {
    const directory = mkdtempSync(join(folder, "begun-"));
    writeFileSync(join(directory, "tokenizer.json"), JSON.stringify(json));
    if (config) writeFileSync(join(directory, "tokenizer_config.json"), JSON.stringify(config));
    const loaded = loadTokenizer(directory);
    expect([loaded.beginning, loaded.endOfText]).toEqual([beginning, end]);
    expect(loaded.encode("the")).toEqual(own.encode("the"));
    expect(encodePrompt(loaded, "the")).toEqual([...beginning, ...own.encode("the")]);
    const marked = (loaded.decode(beginning) || "") + "the";
    expect(encodePrompt(loaded, marked)).toEqual([...beginning, ...own.encode("the")]);
    expect(encodePrompt(loaded, "")).toEqual(beginning);
  });

  it("refuses settings that are none", () => {
    const directory = mkdtempSync(join(folder, "begun-"));
    writeFileSync(join(directory, "tokenizer.json"), JSON.stringify(base));
    writeFileSync(join(directory, "tokenizer_config.json"), "[1]");
    expect(() => loadTokenizer(directory)).toThrow(/tokenizer_config\.json is not an object of settings/);
  });

  it("takes halves of surrogate pairs for U+FFFD", () => {
    for (const json of [base, foreign["ignored merges"]]) {
      const loaded = loadTokenizer(save(json, "halves.json"));
      expect(loaded.encode("a\ud800b\udc00")).toEqual(loaded.encode("a\ufffdb\ufffd"));
    }
  });

  it("says what Hugging Face's implementation cannot do, in one line", () => {
    const loaded = loadTokenizer(save(foreign.Unigram, "unigram.json"));
    const encode = () => loaded.encode("q".repeat(150_000));
    expect(encode).toThrow(InputError);
    expect(encode).toThrow(/unigram\.json cannot encode a text of 15000\d characters.*split/);
  });

  it.each([
    [
      "a merge that makes no token",
      { ...base, model: { ...base.model, merges: [...model.merges, ["the", "zzz"]] } },
      /merge 343 \(\["the","zzz"\]\) makes no token of model\.vocab/,
    ],
    ["nothing", "", /not JSON/],
    [
      "a part of a kind that is not offered",
      { ...base, normalizer: { type: "Sequence", normalizers: [{ type: "Nmt" }] } },
      /json: normalizer\.normalizers\[0\]\.type is "Nmt"; wanted one of NFC, /,
    ],
    [
      "a model of another kind",
      { ...base, model: { ...base.model, type: "Other" } },
      /model\.type is "Other"; wanted one of BPE, /,
    ],
    ["dropout", { ...base, model: { ...base.model, dropout: 0.1 } }, /model\.dropout is 0\.1; wanted null/],
    ["other JSON", "[1]", /no model\.vocab/],
    ["null", "null", /no model\.vocab/],
    [
      "no end of text",
      {
        ...base,
        added_tokens: [],
        model: {
          ...base.model,
          vocab: Object.fromEntries(BYTE_CHARACTERS.map((c, i) => [c, i])),
          merges: [],
        },
      },
      /no token that ends a text/,
    ],
  ])("refuses %s in one line", (name, json, message) => {
    const path = save(json, `bad ${name}.json`);
    expect(() => loadTokenizer(path)).toThrow(InputError);
    expect(() => loadTokenizer(path)).toThrow(message);
  });
});
