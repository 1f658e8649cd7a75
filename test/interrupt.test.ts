/** Ctrl-C and SIGTERM: nothing is lost, and the resumed run is the run that was never stopped. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CLI, MINI, numSteps, scmoe, temporaryDirectory } from "./helpers.js";

const dir = temporaryDirectory();

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** Runs `scmoe` and sends signals: each when the text has appeared on stderr (or a file exists). */
function interrupted(
  args: readonly string[],
  signals: readonly { when: () => boolean | RegExp; send: NodeJS.Signals }[],
  program = CLI,
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program, ...args], {
      cwd: dir,
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    const waiting = [...signals];
    const look = (): void => {
      const [next] = waiting;
      if (next === undefined) return;
      const when = next.when();
      if (!(when instanceof RegExp ? when.test(stderr) : when)) return;
      waiting.shift();
      child.kill(next.send);
    };
    const timer = setInterval(look, 5);
    child.stderr.on("data", (text: Buffer) => {
      stderr += String(text);
      look();
    });
    child.on("close", (code, signal) => {
      clearInterval(timer);
      resolve({ code, signal, stderr });
    });
  });
}

const hasRows = (run: string) => () => numSteps(join(dir, run)) >= 3;
const options = (steps: number) => [
  ...MINI,
  "--set",
  `train.steps=${steps}`,
  "--set",
  "schedule.policy=sequential",
];
const stepsOf = (run: string): number[] =>
  readFileSync(join(dir, run, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { step: number }).step);
const lastWeights = (run: string): Buffer[] => {
  const checkpoints = join(dir, run, "checkpoints");
  const newest = join(checkpoints, readFileSync(join(checkpoints, "latest"), "utf8").trim());
  return readdirSync(newest)
    .filter((name) => name.endsWith(".safetensors"))
    .map((name) => readFileSync(join(newest, name)));
};

describe.each([
  [1, "SIGINT"],
  [2, "SIGTERM"],
] as const)("on %i rank(s), %s", (ranks, signal) => {
  const run = `stopped-${ranks}`;
  it("finishes the step, saves, exits 130 and says how to go on; going on gives the same bits", async () => {
    const steps = 400;
    const { code, stderr } = await interrupted(
      ["train", "-q", "-o", run, "-n", String(ranks), ...options(steps)],
      [{ when: hasRows(run), send: signal }],
    );
    expect([code, stderr]).toEqual([130, `Continue with: scmoe train --resume ${run}\n`]);
    const stoppedAt = stepsOf(run).length;
    expect(stoppedAt).toBeLessThan(steps);
    const end = stoppedAt + 3;
    const more = ["--set", `train.steps=${steps}`, "--set", "train.checkpoint_interval=1"];
    // Both to the same step: the resumed run in two parts, the other in one.
    const resumed = await interrupted(
      ["train", "-q", "--resume", run, "-n", String(ranks), ...more],
      [{ when: () => numSteps(join(dir, run)) >= end, send: "SIGINT" }],
    );
    expect([resumed.code, resumed.stderr.split("\n").at(-2)]).toEqual([
      130,
      expect.stringMatching(/^Continue with/),
    ]);
    const last = stepsOf(run).length;
    expect(stepsOf(run)).toEqual(Array.from({ length: last }, (_, i) => i + 1));
    const whole = `whole-${ranks}`;
    await interrupted(
      [
        "train",
        "-q",
        "-o",
        whole,
        "-n",
        String(ranks),
        ...options(steps),
        "--set",
        "train.keep_checkpoints=1000",
        ...more,
      ],
      [
        {
          when: () => numSteps(join(dir, whole)) >= last,
          send: "SIGINT",
        },
      ],
    );
    const folder = `step-${String(last).padStart(8, "0")}`;
    const [left, right] = [run, whole].map((name) => join(dir, name, "checkpoints", folder));
    for (const file of readdirSync(left).filter((name) => name.endsWith(".safetensors")))
      expect(readFileSync(join(left, file)).equals(readFileSync(join(right, file)))).toBe(true);
  });
});

it("a second Ctrl-C exits at once, also while a checkpoint is being written, and harms nothing", async () => {
  const checkpoints = join(dir, "twice", "checkpoints");
  const isWriting = (): boolean =>
    existsSync(checkpoints) && readdirSync(checkpoints).some((name) => name.endsWith(".tmp"));
  const isSaved = (): boolean => existsSync(join(checkpoints, "latest"));
  const { code } = await interrupted(
    [
      "train",
      "-q",
      "-o",
      "twice",
      ...options(100_000),
      "--set",
      "train.checkpoint_interval=1",
      "--set",
      "train.keep_checkpoints=1",
    ],
    [
      { when: () => isSaved() && isWriting(), send: "SIGINT" },
      { when: () => true, send: "SIGINT" },
    ],
  );
  expect(code).toBe(130);
  expect(lastWeights("twice").length).toBe(2);
  const resumed = scmoe(["train", "-q", "--resume", "twice", "--set", "train.steps=1", "--json"], dir);
  expect([resumed.code, resumed.stderr]).toEqual([0, ""]);
  expect(isWriting()).toBe(false);
});

it("a second Ctrl-C exits at once, also while a rank is in native code, which cannot be stopped", async () => {
  const dist = (path: string): string => new URL(`../dist/${path}`, import.meta.url).href;
  const job = join(dir, "native.mjs");
  writeFileSync(
    job,
    `import { isMainThread } from "node:worker_threads";
     import { openTerminal } from "${dist("cli/terminal.js")}";
     import { libc } from "${dist("core/libc.js")}";
     import { defineJob, launch } from "${dist("index.js")}";
     export const job = defineJob(import.meta.url, "job", async ({ say }) => {
       say("in native code");
       await new Promise((resolve) => setTimeout(resolve, 50));
       libc().func("unsigned sleep(unsigned)")(1000);
     });
     if (isMainThread) await launch(job, {}, openTerminal({ stops: true }));`,
  );
  const { code, stderr } = await interrupted(
    [],
    [
      { when: () => /in native code/, send: "SIGINT" },
      { when: () => /press Ctrl-C again/, send: "SIGINT" },
    ],
    job,
  );
  expect([code, stderr]).toEqual([130, expect.stringMatching(/^in native code\nInterrupted: [^\n]*\n$/)]);
});

it("Ctrl-C while data is prepared stops at once and leaves neither run nor cache", async () => {
  rmSync(join(dir, "cache"), { recursive: true, force: true });
  const { code, stderr } = await interrupted(
    ["train", "-o", "early", "-n", "2", ...options(5), "--set", "data.cache=cache"],
    [{ when: () => /training the tokenizer|encoding/, send: "SIGINT" }],
  );
  expect(stderr).toMatch(/Interrupted while preparing data: there is nothing to save yet\n$/);
  expect(code).toBe(130);
  expect(existsSync(join(dir, "early"))).toBe(false);
  expect(readdirSync(join(dir, "cache"))).toEqual([]);
});
