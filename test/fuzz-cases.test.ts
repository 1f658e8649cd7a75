/** Inputs that the campaign `fuzz` found to crash, hang or fill the terminal: each is refused in one short line now. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { commandLine } from "../src/cli/command-line.js";
import { findCluster, readCalibration } from "../src/cli/plan-files.js";
import { InputError } from "../src/core/errors.js";
import { parseYaml } from "../src/core/yaml.js";
import { trainBpe } from "../src/data/bpe.js";
import { TokenFile } from "../src/data/token-file.js";
import { bpeToJson, loadTokenizer } from "../src/data/tokenizer.js";
import { readConfig } from "../src/model/families/index.js";
import { inferConfig } from "../src/model/infer-config.js";
import { preset } from "../src/model/presets.js";
import { readRunConfig } from "../src/train/config.js";
import { openFixture } from "../src/train/fixture.js";
import { openRun } from "../src/train/open-run.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-fuzz-cases-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

const file = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const deep = (depth: number): string => "[".repeat(depth) + "]".repeat(depth);
const objects = (depth: number): string => '{"a":'.repeat(depth) + "1" + "}".repeat(depth);

/** The message of what is thrown: for people, on one line, and not longer than they read. */
function refusal(action: () => unknown): string {
  let message = "";
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    ({ message } = error as InputError);
  }
  expect(message).not.toBe("");
  expect(message.length).toBeLessThanOrEqual(500);
  expect(message).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
  return message;
}

describe("YAML", () => {
  it.each([
    ["brackets", deep(20_000)],
    ["objects", objects(5_000)],
    ["brackets that nobody closes", "a: " + "[".repeat(20_000)],
    ["lists of lists", "- ".repeat(20_000) + "x"],
    ["keys that are keys", "? ".repeat(20_000) + "x"],
  ])("nested deeply: %s", (_, text) => {
    expect(refusal(() => parseYaml(text, "x.yaml"))).toBe("x.yaml: not YAML: it is nested too deeply");
  });

  it("aliases of aliases", () => {
    const lists = Array.from(
      { length: 9 },
      (_, i) => `l${i + 1}: &l${i + 1} [${Array(9).fill(`*l${i}`).join()}]`,
    );
    expect(refusal(() => parseYaml(`l0: &l0 [x]\n${lists.join("\n")}`, "x.yaml"))).toMatch(/alias/);
  });

  it.each([
    ["a tag that nobody knows", "train: { steps: !count 3 }", /Unresolved tag.*line 1, column 17/],
    ["a key that is a list", "? [model, train]\n: 3", /unknown key/],
  ])("is not warned of behind people's backs: %s", (_, text, message) => {
    const warn = vi.spyOn(process, "emitWarning").mockReturnValue();
    expect(refusal(() => readRunConfig(file("warn.yaml", text), []))).toMatch(message);
    expect(warn).not.toHaveBeenCalled();
  });

  it("longer than any config", () => {
    expect(refusal(() => findCluster(file("long.yaml", '"mem,'.repeat(60_000))))).toMatch(
      /wanted at most 65536/,
    );
  });
});

describe("JSON", () => {
  it.each([
    ["run.json", (path: string) => openRun({ resume: join(path, "..") }), `{"config": ${objects(100_000)}}`],
    ["calibration.json", readCalibration, deep(100_000)],
    ["fixture's run.json", (path: string) => openFixture(join(path, "..")), deep(100_000)],
  ])("nested deeply: %s", (_, read, text) => {
    const path = file("run.json", text);
    expect(refusal(() => read(path))).toBe(`${path} is nested too deeply`);
  });

  it.each(["null", "[]", '"x"'])("a run whose config is %s", (config) => {
    const path = file("run.json", `{"config": ${config}}`);
    expect(refusal(() => openRun({ resume: folder }))).toBe(`${path} is damaged: it has no config`);
  });
});

describe("names that every object has", () => {
  it.each(["constructor", "__proto__", "toString"])("preset %s", (name) => {
    expect(refusal(() => preset(name))).toMatch(/^Unknown preset/);
  });

  it.each(["constructor", "__proto__", "toString"])("%s as a key of a config of others", (key) => {
    const keys = JSON.parse(
      `{ "arch": "top2", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1,
         "num_hidden_layers": 2, "max_position_embeddings": 8, "${key}": { "a": 1 } }`,
    ) as Record<string, unknown>;
    expect(refusal(() => inferConfig(keys, new Map(), "run.json"))).toMatch(`unknown key "${key}"`);
    const published = { ...keys, model_type: "llama" };
    expect(refusal(() => readConfig(published, "config.json"))).toMatch(
      /config.json: (arch|constructor|__proto__|toString) is/,
    );
  });
});

it("values of others that cannot even be shown are refused", () => {
  const hostile = { activation_function: { toString: "toString" }, vocab_size: 8 };
  refusal(() => inferConfig({ ...hostile, model_type: "gpt2" }, new Map(), "config.json"));
  const sizes = { arch: "top2", vocab_size: 8, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 2 };
  for (const key of ["arch", "num_attention_heads", "head_dim", "num_experts_per_tok", "num_experts"])
    refusal(() => inferConfig({ ...sizes, [key]: { toString: "toString" } }, new Map(), "config.json"));
  for (const key of ["architectures", "hidden_size", "rope_scaling", "pad_token_id", "layer_types"])
    refusal(() => readConfig({ model_type: "qwen2", [key]: { toString: "toString" } }, "config.json"));
});

describe("what is quoted", () => {
  it.each([
    ["is shortened", "x".repeat(1_000_000)],
    ["ends no line", "a\r\nb\u2028c\u0085d"],
    ["moves no cursor", "\u001b[2J\u001b]0;title\u0007"],
    ["is text", "\ud800 and \udc00"],
  ])("%s", (_, text) => {
    refusal(() => readRunConfig(undefined, [`${text}=1`]));
    refusal(() => readRunConfig(undefined, [`model.arch=${JSON.stringify(text)}`]));
    refusal(() => preset(text));
    refusal(() => readCalibration(file("x.json", JSON.stringify({ [text]: text }))));
    refusal(() => inferConfig({ style: "llama", scoring_func: { [text]: text } }, new Map(), text));
    const sizes = { vocab_size: 8, hidden_size: 8, intermediate_size: 8, num_attention_heads: 1 };
    const keys = { ...sizes, num_hidden_layers: 1, max_position_embeddings: 8, [text]: 1 };
    refusal(() => inferConfig({ ...keys, arch: "dense" }, new Map(), "run.json"));
    refusal(() => readConfig({ ...keys, model_type: "llama" }, "config.json"));
    refusal(() => readConfig({ ...keys, architectures: [text] }, "config.json"));
  });

  it("of a value only so much that it is recognised", () => {
    const path = file("x.json", JSON.stringify({ ranks: { list: Array(100_000).fill([[[[1]]]]) } }));
    expect(refusal(() => readCalibration(path))).toContain("(found nothing)");
    const other = file("y.json", JSON.stringify({ format: Array(100_000).fill([[[[1]]]]) }));
    expect(refusal(() => readCalibration(other))).toContain("(found [[[[…]]],[[[…]]]");
  });

  it.each([["x".repeat(20_000)], ["line\r\nline"], ["\u001b[2J"]])("in a mistake of usage", async (word) => {
    let told = "";
    vi.spyOn(process.stderr, "write").mockImplementation((text) => {
      told += String(text);
      return true;
    });
    await expect(commandLine({ speaks: true }).parseAsync([word], { from: "user" })).rejects.toThrow();
    expect(told.length).toBeLessThan(600);
    expect(told).toMatch(/^scmoe: unknown command [^\u0000-\u001f]*\n$/);
  });
});

describe("a tokenizer.json", () => {
  const own = bpeToJson(trainBpe(["a text"], 260)) as { model: object; added_tokens: object[] };
  const foreign = {
    model: { type: "WordPiece", unk_token: "[UNK]", vocab: { "[UNK]": 0, "[SEP]": 1, a: 2 } },
    added_tokens: [{ id: 1, content: "[SEP]" }],
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    ...{ normalizer: null, pre_tokenizer: null, post_processor: null },
  };
  it.each<[string, object, RegExp]>([
    ["merges of numbers", { ...own, model: { ...own.model, merges: [101] } }, /model\.merges is \[101\]/],
    ["merges of one token", { ...own, model: { ...own.model, merges: ["ab"] } }, /model\.merges/],
    ["a merge of nothing", { ...own, model: { ...own.model, merges: [null] } }, /model\.merges is \[null\]/],
    [
      "ids that are no numbers",
      { ...foreign, model: { ...foreign.model, vocab: { a: "0" } } },
      /model\.vocab/,
    ],
    [
      "an id beyond any table",
      { ...foreign, model: { ...foreign.model, vocab: { a: 2 ** 31 } } },
      /model\.vocab/,
    ],
    ["an added token of nothing", { ...foreign, added_tokens: [null] }, /added_tokens is \[null\]/],
    ["added tokens that are none", { ...foreign, added_tokens: true }, /added_tokens is true/],
    ["an added token without text", { ...foreign, added_tokens: [{ id: 1 }] }, /added_tokens/],
    [
      "a part of an unknown kind",
      { ...foreign, pre_tokenizer: { type: {} } },
      /pre_tokenizer is \{"type":\{\}\}/,
    ],
  ])("with %s", (_, json, message) => {
    const path = file("tokenizer.json", JSON.stringify(json));
    expect(refusal(() => loadTokenizer(path))).toMatch(message);
  });
});

describe("a token file", () => {
  it.each([
    ["of no kind", (bytes: Uint8Array) => bytes.fill(0, 0, 8), /not a token file/],
    ["with tokens of three bytes", (bytes: Uint8Array) => bytes.fill(3, 12, 13), /tokens of 3 bytes/],
    ["cut off", (bytes: Uint8Array) => bytes.subarray(0, 65), /65 bytes, its header says 72/],
  ])("%s is refused, and closed", (_, change, message) => {
    const path = join(folder, "x.tokens");
    const whole = new Uint8Array(72);
    const header = new DataView(whole.buffer);
    new TextEncoder().encodeInto("scmoetok", whole);
    header.setUint32(8, 1, true);
    header.setUint32(12, 2, true);
    header.setUint32(16, 300, true);
    header.setBigUint64(24, 4n, true);
    writeFileSync(path, change(whole));
    const openFiles = (): number => readdirSync("/proc/self/fd").length;
    const before = openFiles();
    expect(refusal(() => TokenFile.open(path))).toMatch(message);
    expect(openFiles()).toBe(before);
  });
});
