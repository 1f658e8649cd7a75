import { spawnSync } from "node:child_process";
import { expect, it } from "vitest";
import type { DecodeResult } from "../../bench/decode.js";

const MAIN = new URL("../../../dist/cli/main.js", import.meta.url).pathname;

function run(...args: string[]) {
  return spawnSync(process.execPath, [MAIN, "bench", "decode", ...args], { encoding: "utf8" });
}

it("measures a model of random weights, and says so as JSON", () => {
  const sizes = ["--batch", "2,1", "--prompt", "6", "--tokens", "3", "--rounds", "1", "--json"];
  const { status, stdout } = run(
    "--preset",
    "tiny",
    "--set",
    "model.arch=top2",
    "--quantize",
    "int8",
    ...sizes,
  );
  expect(status).toBe(0);
  const { arch, form, rows } = JSON.parse(stdout) as DecodeResult;
  expect([arch, form, rows.map(({ batch }) => batch)]).toEqual(["top2", "int8", [2, 1]]);
});

it.each([
  [["--quantize", "int2"], /wanted f32, int8, int4/],
  [["--batch", "1,0"], /--batch .* wanted a whole number/],
  [["--set", "train.steps=1"], /--set takes model\.KEY=VALUE here; found "train\.steps=1"/],
  [["--prompt", "2000"], /context of 2065; .* is 1024/],
  [["somewhere", "--preset", "tiny"], /leave out --preset/],
])("refuses %j", (args, said) => {
  const { status, stdout, stderr } = run(...args);
  expect([status, stdout, stderr]).toEqual([2, "", expect.stringMatching(said)]);
});
