/** Numbers that are not finite: nothing of them is applied, saved, evaluated or written as text. */
import { cpSync, openSync, readFileSync, readdirSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { CheckpointReader } from "../src/storage/checkpoint-reader.js";
import { SafetensorsReader } from "../src/storage/safetensors.js";
import { MINI, type Ran, metricRows, scmoe, temporaryDirectory } from "./helpers.js";

const dir = temporaryDirectory();
const set = (...keys: string[]): string[] => keys.flatMap((key) => ["--set", key]);
const train = (run: string, ...more: string[]): Ran => scmoe(["train", "-o", run, ...MINI, ...more], dir);

describe.each([1, 2])("a step that is not finite, on %i ranks", (ranks) => {
  const diverging = ["-n", String(ranks), ...set("train.learning_rate=1e6", "train.steps=30")];

  it("ends the run before it is applied, and the newest good checkpoint stays", () => {
    const run = `stop-${ranks}`;
    const every = set("train.checkpoint_interval=1", "train.keep_checkpoints=1");
    const { code, stderr } = train(run, "-q", ...diverging, ...every);
    expect([code, stderr.split("\n").length]).toEqual([1, 2]);
    const [, step] = /Step (\d+) was not applied: .*(?:layer \d|head).* is not finite/.exec(stderr) ?? [];
    const before = Number(step) - 1;
    expect(stderr).toContain(`--resume ${run} goes on after step ${before}`);
    const [name, ...others] = readdirSync(join(dir, run, "checkpoints")).filter((n) => n !== "latest");
    expect([Number(name.slice(5)), others]).toEqual([before, []]);
    const reader = new CheckpointReader(join(dir, run, "checkpoints", name));
    reader.verify();
    for (const tensor of reader.names("model")) {
      const data = new Float32Array(reader.dims("model", tensor).reduce((a, b) => a * b, 1));
      reader.readInto("model", tensor, data);
      expect(data.every(Number.isFinite)).toBe(true);
    }
    reader.close();
  });

  it("is left out and counted where that is wanted, but not for ever", () => {
    const run = `skip-${ranks}`;
    const { code, stderr } = train(run, "-q", ...diverging, ...set("train.on_nonfinite=skip"));
    expect([code, stderr]).toEqual([1, expect.stringMatching(/nor were the 19 before it/)]);
    const skipped = metricRows(join(dir, run)).map((row) => Number(row.skipped_steps));
    expect(skipped[0]).toBe(0);
    expect(skipped.at(-1)).toBe(19);
  });
});

describe("a model with a weight that is not a number", () => {
  beforeAll(() => {
    expect(train("good", "-q").code).toBe(0);
    cpSync(join(dir, "good", "checkpoints", "step-00000006"), join(dir, "bad"), { recursive: true });
    for (const file of ["digests.json", "trainer_state.json", "optimizer.safetensors"])
      rmSync(join(dir, "bad", file));
    const path = join(dir, "bad", "model.safetensors");
    const reader = SafetensorsReader.open(path);
    const { start } = reader.info("model.layers.1.mlp.gate.weight");
    reader.close();
    writeSync(openSync(path, "r+"), new Uint8Array(Float32Array.of(NaN).buffer), 0, 4, start);
    expect(readFileSync(path).readFloatLE(start)).toBeNaN();
  });

  it.each([
    ["eval", []],
    ["generate", ["--tokens", "3"]],
  ])("%s refuses it", (command, more) => {
    const { code, stdout, stderr } = scmoe([command, "bad", ...more], dir);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/"model.layers.1.mlp.gate.weight" has values that are not finite/);
  });
});
