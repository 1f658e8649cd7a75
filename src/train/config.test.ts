import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { InputError } from "../core/errors.js";
import { listKeys, readRunConfig } from "./config.js";

const folder = mkdtempSync(join(tmpdir(), "scmoe-config-"));
const file = (text: string): string => {
  const path = join(folder, "run.yaml");
  writeFileSync(path, text);
  return path;
};
const llama = "model.style=llama";

describe("a config that is refused", () => {
  const sets: [string, string[], RegExp][] = [
    [
      "unknown key",
      ["train.learning_rte=1"],
      /unknown key "train\.learning_rte"; did you mean "learning_rate"\?/,
    ],
    ["unknown model key", ["model.hiden_size=8"], /unknown key "hiden_size"; did you mean "hidden_size"\?/],
    ["unknown section", ["trian.steps=3"], /unknown section "trian"; did you mean "train\.steps"\?/],
    ["no section", ["steps=3"], /did you mean "train\.steps"\?/],
    ["no value", ["train.steps"], /takes KEY=VALUE/],
    ["a whole section", ["train=3"], /SECTION\.KEY=VALUE/],
    ["a key of every object", ["train.__proto__=3"], /SECTION\.KEY=VALUE/],
    ["an empty key", ["train.=3"], /SECTION\.KEY=VALUE/],
    ["a key below a value", ["train.steps.x=3"], /train\.steps: .*expected number, received object/],
    ["wrong type", ["train.steps=many"], /train\.steps: .*expected number.*found "many"/],
    ["not a number", ["train.learning_rate=.nan"], /train\.learning_rate/],
    ["zero width", ["model.hidden_size=0"], /hidden_size: .*>0.*found 0/],
    ["negative batch", ["train.batch_size=-8"], /train\.batch_size: .*>0.*found -8/],
    ["a fraction of a layer", ["model.num_hidden_layers=1.5"], /num_hidden_layers: .*int/],
    ["betas beyond 1", ["train.betas=[2, 3]"], /train\.betas\.0: .*<1/],
    [
      "heads that do not divide",
      ["model.num_attention_heads=3"],
      /hidden_size 128 is not a multiple of num_attention_heads 3/,
    ],
    [
      "key-value heads",
      ["model.num_key_value_heads=3"],
      /num_attention_heads 4 is not a multiple of num_key_value_heads 3/,
    ],
    ["too few experts", ["model.arch=top3", "model.num_experts=2"], /3 experts.*num_experts is 2/],
    ["an odd head under RoPE", [llama, "model.hidden_size=60"], /head dimension 15 is odd/],
    ["an unknown choice", ["model.style=bert"], /expected one of "gpt"\|"llama" \(found "bert"\)/],
    ["unknown architecture", ["model.arch=scmoe-pos9"], /did you mean "scmoe-pos/],
    ["unknown preset", ["model.preset=tinny"], /did you mean "tiny"\?/],
    ["unknown policy", ["schedule.policy=magic"], /Unknown policy "magic"/],
    [
      "a sequence beyond the model",
      ["data.sequence_length=1000"],
      /1000 is beyond max_position_embeddings 128/,
    ],
    ["broken YAML in a value", ["train.betas=[1"], /--set train\.betas=\[1: not YAML/],
  ];
  it.each(sets)("--set: %s", (_, changes, message) => {
    expect(() => readRunConfig(undefined, changes)).toThrow(InputError);
    expect(() => readRunConfig(undefined, changes)).toThrow(message);
  });

  const files: [string, string, RegExp][] = [
    ["broken YAML", "train: [1,\n b", /run\.yaml: not YAML: .*column \d+$/],
    ["a list", "- 1", /run\.yaml: wanted sections .*; found a list/],
    ["a number", "3", /run\.yaml: wanted sections .*; found number/],
    ["unknown section", "trian: {}", /run\.yaml: unknown key "trian"; did you mean "train"\?/],
    ["unknown key", "train: { stepz: 3 }", /run\.yaml: unknown key "train\.stepz"; did you mean "steps"\?/],
    ["a section that is none", "model: 3", /run\.yaml: model: .*expected object/],
    ["a width without the rest", "model: { hidden_size: 64 }", /run\.yaml: model: arch/],
  ];
  it.each(files)("file: %s", (_, text, message) => {
    const path = file(text);
    expect(() => readRunConfig(path, [])).toThrow(InputError);
    expect(() => readRunConfig(path, [])).toThrow(message);
  });

  it("file: a folder, or nothing", () => {
    expect(() => readRunConfig(folder, [])).toThrow(`Cannot read the config ${folder}: it is a directory`);
    expect(() => readRunConfig("/nowhere.yaml", [])).toThrow(
      "Cannot read the config /nowhere.yaml: it does not exist",
    );
  });
});

describe("a config", () => {
  it("is the file, then the sets, over a preset", () => {
    const config = readRunConfig(file("model: { preset: small, num_experts: 4 }\ntrain: { steps: 7 }"), [
      "train.steps=9",
      "model.arch=top2",
    ]);
    expect(config.train.steps).toBe(9);
    expect(config.model).toMatchObject({ hidden_size: 256, num_experts: 4, arch: "top2" });
  });

  it("written out in full resolves to itself", () => {
    const config = readRunConfig(undefined, ["model.preset=small"]);
    expect(readRunConfig(file(JSON.stringify(config)), [])).toEqual(config);
    expect(readRunConfig(undefined, [], config)).toEqual(config);
  });

  it("has an explanation for every key that is not plain", () => {
    const keys = listKeys();
    expect(keys.length).toBeGreaterThan(50);
    expect(keys.filter((key) => key.description === "")).toEqual([]);
    expect(keys.find((key) => key.key === "train.steps")).toMatchObject({
      type: "integer",
      defaultValue: 1000,
    });
  });
});
