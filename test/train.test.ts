import { cpSync, readFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
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
    const { checkpoints } = { checkpoints: join(dir, "parts", "checkpoints") };
    writeFileSync(join(checkpoints, "latest"), "step-00000003\n");
    const resumed = scmoe(["train", "-q", "--resume", "parts"], dir);
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
    writeFileSync(join(dir, "moved", "checkpoints", "latest"), "step-00000003\n");
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
  const cases: [string, string[], RegExp][] = [
    ["missing corpus", ["train", "--set", "data.corpus=/nowhere"], /corpus \/nowhere does not exist/],
    ["unknown key", ["train", "--set", "train.learning_rte=1"], /learning_rte.*did you mean "learning_rate"/],
    ["wrong type", ["train", "--set", "train.steps=many"], /train\.steps/],
    ["heads", ["train", "--set", "model.num_attention_heads=3"], /not a multiple of num_attention_heads 3/],
    [
      "too few experts",
      ["train", "--set", "model.arch=top3", "--set", "model.num_experts=2"],
      /3 experts.*num_experts is 2/,
    ],
    ["unknown architecture", ["train", "--set", "model.arch=scmoe-pos9"], /did you mean "scmoe-pos/],
    ["unknown policy", ["train", "--set", "schedule.policy=magic"], /Unknown policy "magic"/],
    ["unknown option", ["train", "--rank", "2"], /unknown option/],
    ["batch not divisible", ["train", "-n", "3"], /batch_size 8 is not a multiple of 3/],
    ["bad link", ["train", "-n", "2", "--link", "fast"], /10gbit,20us/],
    ["an existing run", ["train", "-o", "whole"], /already holds a run/],
    ["no checkpoint", ["eval", "nowhere"], /holds no checkpoint/],
    ["no fixture", ["verify", "nowhere"], /run\.json/],
  ];
  it.each(cases)("%s", (_, args, message) => {
    const { code, stderr } = scmoe(args, dir);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect(code).toBe(2);
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

it("ranks of one process prepare the same data at once", () => {
  const cwd = temporaryDirectory();
  const { code, stderr } = scmoe(["train", "-q", "-n", "4", "-o", "together", ...MINI], cwd);
  expect([code, stderr]).toEqual([0, ""]);
  expect(readdirSync(join(cwd, ".scmoe/cache")).filter((name) => name.includes("tmp"))).toEqual([]);
});
