/** `scmoe verify` on a fixture that the test makes with the product itself: agrees with itself, notices every change. */
import { cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { singleCommunicator } from "../src/comm/single.js";
import { philox } from "../src/core/rng.js";
import { createOrtEngine } from "../src/engine/ort-engine.js";
import { resolveModel } from "../src/model/config.js";
import { listParameters } from "../src/model/parameters.js";
import { sequential } from "../src/schedule/sequential.js";
import { SafetensorsReader, type TensorToStore, safetensorsBytes } from "../src/storage/safetensors.js";
import { clipFactor, gradientNorm } from "../src/train/optimizer.js";
import { applyUpdate, forwardBackward } from "../src/train/step.js";
import { openStep } from "../src/train/step-sessions.js";
import { type Trainee, createTrainee } from "../src/train/trainee.js";
import { type FixtureReport as VerifyReport, verifyFixture } from "../src/train/verify.js";
import { scmoe, temporaryDirectory } from "./helpers.js";

const KEYS = {
  arch: "scmoe-pos2",
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 24,
  num_attention_heads: 2,
  num_hidden_layers: 2,
  num_experts: 4,
  max_position_embeddings: 12,
  capacity_factor: 1,
  coefficient_gate: "cg1",
};
const [STEPS, BATCH, S] = [2, 2, 11];
const OPTIMIZER = { betas: [0.9, 0.95], eps: 1e-8, weight_decay: 0.1, clip_norm: 1 } as const;
const RATE = 1e-3;

const dir = temporaryDirectory();
const whole = join(dir, "whole");
const engine = createOrtEngine();
afterAll(() => {
  engine.dispose();
  rmSync(dir, { recursive: true });
});

function write(path: string, tensors: readonly TensorToStore[]): void {
  writeFileSync(path, Buffer.concat([...safetensorsBytes(tensors)]));
}

function snapshot(rank: Trainee, part: "weights" | "gradients", factor = 1): TensorToStore[] {
  return listParameters(rank.config).map(({ name, dims }) => ({
    name,
    dtype: "F32",
    dims,
    data: rank[part].span([name]).map((x) => x * factor),
  }));
}

function makeFixture(directory: string): void {
  mkdirSync(directory);
  const config = resolveModel(KEYS);
  const rank = createTrainee({ config, engine, world: singleCommunicator() });
  // Wider than a fresh model, so that attention and gates decide something.
  rank.weights.initialize(3, 0.2);
  write(join(directory, "initial.safetensors"), snapshot(rank, "weights"));
  const random = philox(4, "tokens");
  const tokens = Int32Array.from({ length: STEPS * BATCH * (S + 1) }, (_, i) =>
    Math.floor(random.uniform(i) * KEYS.vocab_size),
  );
  write(join(directory, "tokens.safetensors"), [
    { name: "tokens", dtype: "I32", dims: [STEPS, BATCH, S + 1], data: tokens },
  ]);
  const sessions = openStep(rank, { batch: BATCH, sequence: S, epSize: 1 }, sequential);
  const steps = Array.from({ length: STEPS }, (_, step) => {
    const rows = Array.from({ length: BATCH }, (_row, b) => (step * BATCH + b) * (S + 1));
    const cut = (shift: number) =>
      Int32Array.from(rows.flatMap((from) => [...tokens.subarray(from + shift, from + shift + S)]));
    const batch = { tokens: cut(0), labels: cut(1), firstToken: 0 };
    const report = forwardBackward(rank, sessions, [batch], { step, seed: 0 });
    const norm = gradientNorm(rank);
    const gradScale = clipFactor(norm, OPTIMIZER.clip_norm);
    if (step === 0) write(join(directory, "gradients0.safetensors"), snapshot(rank, "gradients", gradScale));
    applyUpdate(sessions, { step: step + 1, learningRate: RATE, gradScale, options: OPTIMIZER });
    const { lmLoss, balanceLoss, loss } = report;
    return { step, lm_loss: lmLoss, balance_loss: balanceLoss, loss, grad_norm: norm };
  });
  write(join(directory, "final.safetensors"), snapshot(rank, "weights"));
  const settings = { weight_decay: 0.1, betas: [0.9, 0.95], eps: 1e-8, clip_norm: 1 };
  writeFileSync(
    join(directory, "run.json"),
    JSON.stringify({ config: KEYS, learning_rate: RATE, ...settings, balance_coefficient: 0.01, steps }),
  );
}

beforeAll(() => makeFixture(whole));

/** A copy of the fixture, changed. */
function changed(name: string, change: (path: (file: string) => string) => void): string {
  const copy = join(dir, name.replace(/\W+/g, "-"));
  cpSync(whole, copy, { recursive: true });
  change((file) => join(copy, file));
  return copy;
}

interface RunJson {
  config: Record<string, unknown>;
  steps: Record<string, number>[];
  [key: string]: unknown;
}

function editRun(edit: (run: RunJson) => void): (path: (file: string) => string) => void {
  return (path) => {
    const run = JSON.parse(readFileSync(path("run.json"), "utf8")) as RunJson;
    edit(run);
    writeFileSync(path("run.json"), JSON.stringify(run));
  };
}

function editTensors(
  name: string,
  edit: (tensors: (TensorToStore & { data: Float32Array })[]) => readonly TensorToStore[],
): (path: (file: string) => string) => void {
  return (path) => {
    const file = path(`${name}.safetensors`);
    const reader = SafetensorsReader.open(file);
    const tensors = reader.names.map((tensor) => ({
      name: tensor,
      dtype: "F32" as const,
      dims: reader.info(tensor).dims,
      data: reader.readF32(tensor),
    }));
    reader.close();
    write(file, edit(tensors));
  };
}

/** Adds to the first element of one tensor. */
const nudge = (file: string, tensor: string, by: number) =>
  editTensors(file, (tensors) => {
    (tensors.find((t) => t.name === tensor) as { data: Float32Array }).data[0] += by;
    return tensors;
  });

const DOWN = "model.layers.1.mlp.experts.0.down_proj.weight";

describe("verify", () => {
  it("passes on what the product itself computed, and routes so tightly that tokens are dropped", () => {
    const report: VerifyReport = verifyFixture(whole, engine);
    expect(report.failures).toEqual([]);
    expect(report.passed).toBe(true);
    expect(report.gradients.length).toBe(listParameters(resolveModel(KEYS)).length);
    const judged = report.gradients.filter((g) => !g.undetermined);
    expect(judged.length).toBeGreaterThan(report.gradients.length - 4);
  });

  it.each<[string, (path: (file: string) => string) => void, RegExp]>([
    ["an altered weight", nudge("initial", DOWN, 0.3), /loss of step 0/],
    ["an altered gradient", nudge("gradients0", "model.norm.weight", 0.1), /gradient of model\.norm\.weight/],
    ["an altered final weight", nudge("final", DOWN, 0.3), new RegExp(`final ${DOWN}`)],
    ["a NaN in the final weights", nudge("final", DOWN, NaN), new RegExp(`final ${DOWN}: error NaN`)],
    [
      "a zeroed gradient",
      editTensors("gradients0", (all) =>
        all.map((t) => (t.name === DOWN ? { ...t, data: t.data.fill(0) } : t)),
      ),
      new RegExp(`gradient of ${DOWN}`),
    ],
    [
      "an altered balance loss",
      editRun((run) => (run.steps[0].balance_loss *= 1.01)),
      /balance loss of step 0/,
    ],
    ["an altered norm", editRun((run) => (run.steps[0].grad_norm *= 1.01)), /gradient norm/],
    ["another architecture", editRun((run) => (run.config.arch = "scmoe-pos1")), /loss of step 0/],
    ["another capacity", editRun((run) => (run.config.capacity_factor = null)), /loss of step 0/],
    ["another decay", editRun((run) => (run.weight_decay = 100)), /final/],
  ])("fails on %s", (name, change, message) => {
    const { passed, failures } = verifyFixture(changed(name, change), engine);
    expect(passed).toBe(false);
    expect(failures.join("\n")).toMatch(message);
  });

  it.each<[string, (path: (file: string) => string) => void, RegExp]>([
    [
      "no initial weights",
      (path) => rmSync(path("initial.safetensors")),
      /Cannot open .*initial\.safetensors: it does not exist/,
    ],
    ["no run.json", (path) => rmSync(path("run.json")), /Cannot read .*run\.json/],
    ["broken JSON", (path) => writeFileSync(path("run.json"), '{"config": {'), /run\.json is not JSON/],
    ["JSON of something else", (path) => writeFileSync(path("run.json"), "[1]"), /run\.json/],
    ["no learning rate", editRun((run) => delete run.learning_rate), /learning_rate/],
    ["no steps", editRun((run) => (run.steps = [])), /steps/],
    [
      "a size of the wrong type",
      editRun((run) => (run.config.hidden_size = "16")),
      /hidden_size.*found "16"/,
    ],
    ["an unknown architecture", editRun((run) => (run.config.arch = "topp2")), /Unknown architecture/],
    [
      "a key that is none of the conventions",
      editRun((run) => (run.config.hidden_act = "relu")),
      /unknown key "hidden_act"/,
    ],
    [
      "widths that do not fit",
      editRun((run) => (run.config.intermediate_size = 25)),
      /is \[24, 16\], the config wants \[25, 16\]/,
    ],
    ["a truncated file", (path) => truncateSync(path("final.safetensors"), 4000), /final\.safetensors/],
    ["a file of noise", (path) => writeFileSync(path("tokens.safetensors"), "noise"), /tokens\.safetensors/],
    [
      "a header without shapes",
      (path) => writeFileSync(path("tokens.safetensors"), header({ tokens: { dtype: "I32" } })),
      /tokens\.safetensors/,
    ],
    [
      "a header that is a list",
      (path) => writeFileSync(path("tokens.safetensors"), header([null])),
      /tokens\.safetensors/,
    ],
    [
      "a missing final weight",
      editTensors("final", (all) => all.slice(1)),
      /final\.safetensors has no tensor/,
    ],
    [
      "a missing gradient",
      editTensors("gradients0", (all) => all.filter((t) => t.name !== DOWN)),
      /no gradient of/,
    ],
    [
      "a tensor too many",
      editTensors("initial", (all) => [...all, { ...all[0], name: "model.extra" }]),
      /"model\.extra" has no place/,
    ],
    ["a token beyond the vocabulary", badToken, /token 40 is outside the vocabulary of 40/],
  ])("refuses %s in one line", (name, change, message) => {
    const copy = changed(name, change);
    expect(() => verifyFixture(copy, engine)).toThrow(
      expect.objectContaining({ name: "InputError", message: expect.stringMatching(message) }),
    );
    expect(() => verifyFixture(copy, engine)).toThrow(/^[^\n]*$/);
  });

  it("refuses a key that it does not know", () => {
    const copy = changed(
      "unknown key",
      editRun((run) => (run.config.capacity_facter = 2)),
    );
    expect(() => verifyFixture(copy, engine)).toThrow(
      /unknown key "capacity_facter"; did you mean "capacity_factor"/,
    );
  });

  it("exits 0, 1 and 2", () => {
    const fails = changed("cli fails", nudge("final", DOWN, 0.3));
    expect(scmoe(["verify", whole], dir)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("PASSED"),
    });
    expect(scmoe(["verify", fails], dir)).toMatchObject({
      code: 1,
      stdout: expect.stringContaining("FAILED"),
    });
    const { code, stderr } = scmoe(["verify", join(dir, "nowhere")], dir);
    expect([code, stderr.trim().split("\n").length]).toEqual([2, 1]);
  });
});

function badToken(path: (file: string) => string): void {
  const data = new Int32Array(STEPS * BATCH * (S + 1)).fill(KEYS.vocab_size);
  write(path("tokens.safetensors"), [{ name: "tokens", dtype: "I32", dims: [STEPS, BATCH, S + 1], data }]);
}

function header(content: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(content));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text]);
}
