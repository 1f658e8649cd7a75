/** `scmoe convert` as a user runs it: what it writes, what reads that, and what it refuses. */
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { convert } from "../src/api/convert.js";
import { evaluate } from "../src/api/evaluate.js";
import { generate } from "../src/api/generate.js";
import { train } from "../src/api/train.js";
import { MINI, scmoe, temporaryDirectory } from "./helpers.js";

const dir = temporaryDirectory();
const at = (name: string): string => join(dir, name);
const cache = at("cache");
const mini = MINI.filter((word) => word !== "--set");
const make = (arch: string) =>
  train({
    sets: [...mini, `model.arch=${arch}`, `data.cache=${cache}`, "train.learning_rate=0.01"],
    directory: at(arch),
  });

beforeAll(async () => {
  await make("top2");
  await make("dense");
});

it("writes a folder that is evaluated, sampled and trained on", async () => {
  const lines: string[] = [];
  const onEvent = (event: { line?: string }): void => void lines.push(event.line ?? "");
  const source = at("top2");
  const result = await convert({ source, to: "scmoe-pos2", out: at("pos2"), cache, batches: 2, onEvent });
  expect(readdirSync(at("pos2")).sort()).toEqual([
    "config.json",
    "conversion.json",
    "digests.json",
    "model.safetensors",
    "tokenizer.json",
  ]);
  expect(result).toMatchObject({ from: "top2", to: "scmoe-pos2", trained: null, gain: null });
  expect(result.positions).toHaveLength(3);
  expect(lines.filter((line) => /^Position 2 \(chosen/.test(line))).toHaveLength(1);
  const loss = async (model: string) => (await evaluate({ model, cache, batches: 2 })).loss;
  expect(await loss(at("pos2"))).toBeCloseTo(result.convertedLoss ?? NaN, 6);
  expect(await loss(source)).toBeCloseTo(result.sourceLoss ?? NaN, 6);
  expect((await generate({ model: at("pos2"), prompt: "The", maxNewTokens: 3 })).text).toBeTypeOf("string");
  const sets = ["train.steps=1", "train.batch_size=8", "train.learning_rate=1e-9", `data.cache=${cache}`];
  const further = await train({ from: at("pos2"), sets, directory: at("further") });
  expect(further.arch).toBe("scmoe-pos2");
  expect(Math.abs((further.validationLoss ?? NaN) - (result.convertedLoss ?? NaN))).toBeLessThan(0.05);
});

it("the same seed gives the same bytes, another one others", async () => {
  const bytes = async (out: string, seed: number, ranks: number) => {
    await convert({
      source: at("dense"),
      to: "scmoe-pos1",
      experts: 4,
      out: at(out),
      cache,
      batches: 1,
      seed,
      ranks,
    });
    return readFileSync(join(at(out), "model.safetensors"));
  };
  const first = await bytes("a", 1, 1);
  expect((await bytes("b", 1, 2)).equals(first)).toBe(true);
  expect((await bytes("c", 2, 1)).equals(first)).toBe(false);
});

it("trains on with the source as teacher, and says what a step gains", async () => {
  const result = await convert({
    source: at("dense"),
    to: "scmoe-pos2",
    experts: 4,
    out: at("upcycled"),
    cache,
    trainSteps: 2,
    sets: ["train.distill.temperature=3"],
    cluster: "8xA800-NVLink",
  });
  expect(result.directory).toBe(join(at("upcycled"), "converted"));
  expect(result.trained).toMatchObject({ directory: at("upcycled"), steps: 2 });
  expect(result.gain?.map(({ mode }) => mode)).toEqual(["forward", "train"]);
  const { config } = JSON.parse(readFileSync(join(at("upcycled"), "run.json"), "utf8")) as {
    config: { train: { batch_size: number; distill: object }; data: { sequence_length: number } };
  };
  expect(config.train).toMatchObject({ batch_size: 8, distill: { temperature: 3, weight: 0.5 } });
  const resumed = await train({ resume: at("upcycled"), sets: ["train.steps=3"] });
  expect(resumed.steps).toBe(3);
});

it.each([
  ["an unknown architecture", ["top2", "--to", "scmoe-pos7", "-o", "x"], /Unknown architecture "scmoe-pos7"/],
  [
    "what it is already",
    ["top2", "--to", "top2", "-o", "x"],
    /A top2 model cannot be converted to top2: it is one already/,
  ],
  ["a source that is not there", ["nowhere", "--to", "scmoe-pos2", "-o", "x"], /nowhere holds no checkpoint/],
  [
    "a folder with something in it",
    ["top2", "--to", "scmoe-pos2", "-o", "full"],
    /full is not empty: it holds mine\.txt/,
  ],
  ["a file in its place", ["top2", "--to", "scmoe-pos2", "-o", "full/mine.txt"], /mine\.txt is a file/],
  [
    "keys without training",
    ["top2", "--to", "scmoe-pos2", "-o", "x", "--set", "train.steps=3"],
    /--train-steps/,
  ],
  ["an impossible share", ["top2", "--to", "scmoe-pos2", "-o", "x", "--routed-share", "2"], /--routed-share/],
])("%s: one line, exit 2, nothing written", (_name, args, message) => {
  mkdirSync(at("full"), { recursive: true });
  writeFileSync(at("full/mine.txt"), "");
  const before = readdirSync(dir);
  const { code, stderr } = scmoe(["convert", ...args], dir);
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd()).not.toContain("\n");
  expect(readdirSync(dir)).toEqual(before);
});

it("a damaged source leaves nothing behind", async () => {
  const file = join(at("c"), "model.safetensors");
  const bytes = readFileSync(file);
  bytes[bytes.length - 3] ^= 64;
  writeFileSync(file, bytes);
  await expect(convert({ source: at("c"), to: "scmoe-pos3", out: at("none"), cache })).rejects.toThrow(
    /model\.safetensors is damaged: its SHA-256/,
  );
  expect(existsSync(at("none"))).toBe(false);
  expect(readdirSync(dir).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});
