import { cpSync, existsSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { TrainResult } from "../src/train/train-job.js";
import { MINI, scmoe, temporaryDirectory } from "./helpers.js";

interface Row {
  readonly step: number;
  readonly loss: number;
  readonly grad_norm: number;
}

const dir = temporaryDirectory();
const losses = (run: string): [number, number, number][] =>
  readFileSync(join(dir, run, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Row)
    .map((row) => [row.step, row.loss, row.grad_norm]);
const train = (run: string, ...more: string[]) => scmoe(["train", "-q", "-o", run, ...MINI, ...more], dir);
const weights = (run: string): Buffer =>
  readFileSync(join(dir, run, "checkpoints", "step-00000006", "model.safetensors"));

beforeAll(() => {
  expect(train("whole").stderr).toBe("");
});

describe("a run", () => {
  it("resumes bit for bit", () => {
    expect(train("parts", "--set", "train.checkpoint_interval=3").code).toBe(0);
    const resumed = scmoe(["train", "-q", "--resume", "parts/checkpoints/step-00000003"], dir);
    expect(resumed.stderr).toBe("");
    expect(losses("parts")).toEqual(losses("whole"));
    expect(weights("parts").equals(weights("whole"))).toBe(true);
  });

  it("is evaluated and sampled", () => {
    const evaluated = scmoe(["eval", "whole", "--json", "--batches", "1"], dir);
    expect(JSON.parse(evaluated.stdout)).toMatchObject({ loss: expect.any(Number) });
    const text = scmoe(["generate", "whole", "--prompt", "The", "--tokens", "5", "--json"], dir);
    expect(JSON.parse(text.stdout)).toMatchObject({ prompt: "The", text: expect.any(String) });
  });

  it("on one rank says nothing of an overlap", () => {
    const { code, stderr } = scmoe(
      ["train", "-o", "alone", ...MINI, "--set", "train.steps=9", "--set", "schedule.policy=adaptive"],
      dir,
    );
    expect(code).toBe(0);
    expect(stderr).not.toMatch(/cost|Warning/);
  });

  it.each([2, 4])("on %i ranks it is the run on one", (ranks) => {
    const global = ["--set", "model.balance_statistics=global"];
    expect(train(`one-${ranks}`, ...global).code).toBe(0);
    expect(train(`many-${ranks}`, "-n", String(ranks), ...global).code).toBe(0);
    const [one, many] = [losses(`one-${ranks}`), losses(`many-${ranks}`)];
    one.forEach(([, loss, norm], i) => {
      expect(Math.abs(many[i][1] - loss) / loss).toBeLessThan(1e-5);
      expect(Math.abs(many[i][2] - norm) / norm).toBeLessThan(1e-4);
    });
  });

  it("moves between numbers of ranks", () => {
    const global = ["--set", "model.balance_statistics=global", "--set", "train.checkpoint_interval=3"];
    expect(train("moved", "-n", "4", ...global).code).toBe(0);
    rmSync(join(dir, "moved", "checkpoints", "step-00000006"), { recursive: true });
    for (const ranks of ["1", "2"]) {
      cpSync(join(dir, "moved"), join(dir, `moved-${ranks}`), { recursive: true });
      expect(scmoe(["train", "-q", "--resume", `moved-${ranks}`, "-n", ranks], dir).stderr).toBe("");
      losses(`moved-${ranks}`).forEach(([, loss], i) =>
        expect(Math.abs(loss - losses("moved")[i][1]) / loss).toBeLessThan(1e-5),
      );
    }
  });

  it.each(["sequential", "adaptive", "fixed(1)", "fixed(2)", "fixed(3)"])(
    "computes the same bits under %s",
    (policy) => {
      const run = `policy-${policy.replace(/\W/g, "")}`;
      if (policy === "sequential")
        expect(train("policy-first", "-n", "2", "--set", "schedule.policy=sequential").code).toBe(0);
      expect(train(run, "-n", "2", "--set", `schedule.policy=${policy}`).code).toBe(0);
      expect(losses(run)).toEqual(losses("policy-first"));
    },
  );
});

describe("bad input gets one line and exit code 2", () => {
  const cases: [string, string[], RegExp, number?][] = [
    ["missing corpus", ["train", "--set", "data.corpus=/nowhere"], /corpus \/nowhere does not exist/],
    [
      "a corpus shorter than a sequence",
      ["train", "-o", "short", ...MINI, "--set", "data.corpus=short.txt"],
      /fewer than one sequence of 32 \+ 1/,
    ],
    [
      "a corpus in another encoding",
      ["train", "-o", "latin", ...MINI, "--set", "data.corpus=latin.txt"],
      /latin\.txt is not utf-8 text: byte 0xe9 at offset 3;.*data\.encoding/,
    ],
    [
      "an unknown encoding",
      ["train", "--dry-run", "--set", "data.encoding=utf8le"],
      /data\.encoding: unknown encoding "utf8le".*known: utf-8, latin1/,
    ],
    [
      "an unknown encoding of text to evaluate on",
      ["eval", "whole", "--encoding", "latn1"],
      /--encoding: unknown encoding "latn1"; did you mean "latin1"/,
    ],
    ["unknown key", ["train", "--set", "train.learning_rte=1"], /learning_rte.*did you mean "learning_rate"/],
    ["unknown option", ["train", "--rank", "2"], /unknown option '--rank' \(Did you mean --ranks\?\)/],
    ["unknown command", ["trian"], /unknown command 'trian' \(Did you mean train\?\)/],
    ["missing argument", ["eval"], /missing required argument 'dir'/],
    [
      "not a number",
      ["generate", "whole", "--temperature", "NaN"],
      /'NaN' is invalid. wanted a number from 0/,
    ],
    ["no tokens", ["generate", "whole", "--tokens", "0"], /wanted a whole number from 1/],
    ["a sequence beyond the model", ["eval", "whole", "--sequence", "33"], /33 is beyond .* 32/],
    ["ids that are none", ["tokenizer", "decode", "whole", "x"], /'x' is invalid.* a whole number/],
    [
      "an id beyond the tokenizer",
      ["tokenizer", "decode", "whole", "300"],
      /300 is beyond the tokenizer's 300 tokens/,
    ],
    ["batch not divisible", ["train", "-n", "3"], /batch_size 8 is not a multiple of 3/],
    [
      "an expert-parallel size that does not divide the ranks",
      ["train", "-o", "short", ...MINI, "-n", "2", "--set", "parallel.expert_parallel=3"],
      /^(?!.*--).*expert-parallel size 3 .*number of ranks 2; choose/,
    ],
    [
      "one that does not divide the experts",
      ["train", "-o", "short", ...MINI, "-n", "8"],
      /^(?!.*--).*num_experts 4 .*expert-parallel size 8; choose a number of ranks/,
    ],
    [
      "one that does not divide the ranks of a comparison",
      ["bench", "compare", "--ep", "3"],
      /^(?!.*--).*expert-parallel size 3 .*number of ranks 2; choose/,
    ],
    ["bad link", ["train", "-n", "2", "--link", "fast"], /10gbit,20us/],
    ["an existing run", ["train", "-o", "whole"], /already holds a run/],
    ["a file for a run", ["train", "-o", "short.txt"], /short\.txt is a file/],
    ["no checkpoint", ["eval", "nowhere"], /holds no checkpoint/],
    ["no fixture", ["verify", "nowhere"], /nowhere is no directory/],
    ["where nothing can be written", ["train", "-o", "/proc/run", ...MINI], /Cannot write \/proc\/run/, 1],
    [
      "below a file",
      ["tokenizer", "train", "-o", "short.txt/x", "--vocab-size", "257"],
      /Cannot write short\.txt/,
      1,
    ],
  ];
  beforeAll(() => {
    writeFileSync(join(dir, "short.txt"), "too short");
    writeFileSync(join(dir, "latin.txt"), Buffer.from("un été ".repeat(99), "latin1"));
  });

  it.each(cases)("%s", (_, args, message, exitCode = 2) => {
    const { code, stderr, stdout } = scmoe(args, dir);
    const lines = stderr.trim().split("\n");
    expect(lines.at(-1)).toMatch(message);
    expect(lines.filter((line) => line.startsWith("scmoe: "))).toHaveLength(1);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect([code, stdout]).toEqual([exitCode, ""]);
    expect(existsSync(join(dir, "short"))).toBe(false);
  });

  it("text in another encoding, unless that is named", () => {
    const command = [
      "tokenizer",
      "train",
      "--corpus",
      "latin.txt",
      "-o",
      "latin.json",
      "--vocab-size",
      "258",
    ];
    expect(scmoe(command, dir).code).toBe(2);
    expect(scmoe([...command, "--encoding", "latin1"], dir).code).toBe(0);
    expect(scmoe(["tokenizer", "encode", "latin.json", "été", "--json"], dir).stdout).toMatch(
      /256,\s+116,\s+256/,
    );
  });

  it("an empty corpus", () => {
    writeFileSync(join(dir, "empty.txt"), "");
    const { code, stderr } = scmoe(["train", "--set", "data.corpus=empty.txt"], dir);
    expect([code, stderr]).toEqual([2, expect.stringContaining("is empty")]);
  });

  it.each(["truncated", "flipped"])("a %s checkpoint", (how) => {
    cpSync(join(dir, "whole"), join(dir, how), { recursive: true });
    const folder = join(dir, how, "checkpoints", "step-00000006");
    expect(readdirSync(folder)).toContain("model.safetensors");
    const file = join(folder, "model.safetensors");
    const bytes = readFileSync(file);
    if (how === "truncated") truncateSync(file, bytes.length - 100);
    else {
      bytes[bytes.length - 50] ^= 1;
      writeFileSync(file, bytes);
    }
    for (const command of [
      ["eval", how],
      ["generate", how],
      ["train", "-q", "--resume", how],
    ]) {
      const { code, stderr } = scmoe(command, dir);
      expect(stderr).toMatch(/model\.safetensors/);
      expect(code).toBe(2);
    }
  });
});

describe("memory", () => {
  const result = (run: string, ...more: string[]): TrainResult =>
    JSON.parse(
      train(run, "--json", "--set", "train.steps=2", "--set", "model.hidden_size=64", ...more).stdout,
    ) as TrainResult;

  it("is predicted before the run, and is what was predicted", () => {
    const { memory } = result("predicted");
    expect(memory.activationBytes / memory.predictedBytes).toBeGreaterThan(0.98);
    expect(memory.activationBytes / memory.predictedBytes).toBeLessThan(1.02);
  });

  it("of the whole process is predicted, too", () => {
    const { memory } = result("whole process", "-n", "2");
    expect(memory.peakRssBytes / memory.neededBytes).toBeGreaterThan(0.85);
    expect(memory.peakRssBytes / memory.neededBytes).toBeLessThan(1.15);
  });

  it("that no machine has is refused before anything is written, unless that is to be ignored", () => {
    const huge = ["--set", "model.preset=gpt3-moe-xl", "--set", "train.batch_size=65536"];
    const wanted = /1 rank needs \d+\.\d\d GB memory: weights 18\.15 GB, .* available .*--ignore-memory/;
    for (const args of [["-o", "huge", "-q"], ["--dry-run"]]) {
      const { code, stderr } = scmoe(["train", ...args, ...huge], dir);
      expect([code, stderr]).toEqual([2, expect.stringMatching(wanted)]);
      expect(stderr.trim().split("\n")).toHaveLength(1);
    }
    expect(existsSync(join(dir, "huge"))).toBe(false);
    const ignored = scmoe(["train", "--dry-run", "--ignore-memory", ...huge], dir);
    expect([ignored.code, ignored.stderr]).toEqual([
      0,
      expect.stringMatching(/^Memory per rank: .* too little/),
    ]);
  });

  it("is said by every command that runs a model", () => {
    const said = (...args: string[]): string => scmoe(args, dir).stderr;
    expect(said("eval", "whole", "--batches", "1")).toMatch(/^Memory per rank: weights \d+ MB.* available/);
    expect(said("generate", "whole", "--tokens", "1")).toMatch(
      /^Memory per rank: weights \d+ MB.* available/,
    );
    const checks = scmoe(["doctor", "--preset", "small", "--ranks", "2"], dir).stdout;
    expect(checks).toMatch(/ok +memory: .* preset small: Memory per rank: .*2 ranks need .* GB of/);
    expect(checks).toMatch(/ok +memory to write: with preset small, 8 texts .* 2 ranks need \d+ MB of/);
  });

  it("is less with recomputation, which gives the same numbers", () => {
    const [kept, recomputed] = [result("kept"), result("recomputed", "--set", "train.recompute=true")];
    expect(recomputed.memory.activationBytes).toBeLessThan(0.7 * kept.memory.activationBytes);
    expect(recomputed.memory.predictedBytes).toBeLessThan(0.7 * kept.memory.predictedBytes);
    losses("recomputed").forEach(([, loss, norm], i) => {
      expect(Math.abs(loss - losses("kept")[i][1]) / loss).toBeLessThan(1e-6);
      expect(Math.abs(norm - losses("kept")[i][2]) / norm).toBeLessThan(1e-5);
    });
  });
});

it("only JSON is on stdout under --json, and a resolved config trains as it was", () => {
  const printed = scmoe(["train", "--dry-run", ...MINI], dir);
  writeFileSync(join(dir, "resolved.yaml"), printed.stdout);
  const again = scmoe(["train", "--dry-run", "-c", "resolved.yaml", "--json"], dir);
  expect(JSON.parse(again.stdout)).toMatchObject({ model: { hidden_size: 32 }, train: { steps: 6 } });
  for (const command of [
    ["tokenizer", "train", "-o", "t.json", "--vocab-size", "260", "--json"],
    ["tokenizer", "encode", "t.json", "The state", "--json"],
    ["tokenizer", "decode", "t.json", "84", "104", "--json"],
    ["data", "--vocab-size", "300", "--json"],
    ["doctor", "--json"],
  ])
    expect(() => JSON.parse(scmoe(command, dir).stdout) as unknown, command.join(" ")).not.toThrow();
});

it("ranks of one process prepare the same data at once", () => {
  const cwd = temporaryDirectory();
  const { code, stderr } = scmoe(["train", "-q", "-n", "4", "-o", "together", ...MINI], cwd);
  expect([code, stderr]).toEqual([0, ""]);
  expect(readdirSync(join(cwd, ".scmoe/cache")).filter((name) => name.includes("tmp"))).toEqual([]);
});
