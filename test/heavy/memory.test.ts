/** Memory as predicted and as it was, over models, ranks and commands; and a control group that is too small. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TrainResult } from "../../src/train/train-job.js";
import { CLI, HAS_MPI, IS_ROOT, MPIRUN, MPI_ENV, scmoe, temporaryDirectory } from "../helpers.js";

const dir = temporaryDirectory();
const sets = (...all: string[]): string[] => all.flatMap((set) => ["--set", set]);
const STEPS = sets("train.steps=2");

/** Prints the peak of a command's process after everything else. */
const PEAK = `data:text/javascript,${encodeURIComponent(`
  import { readFileSync } from "node:fs";
  import { isMainThread } from "node:worker_threads";
  if (isMainThread) process.on("exit", () => {
    process.stderr.write("peak " + /VmHWM:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1] + " kB\\n");
  });
`)}`;

function measured(launcher: readonly string[], args: readonly string[]): { peaks: number[]; needed: number } {
  const [command, ...rest] = [...launcher, process.execPath, "--import", PEAK, CLI, ...args];
  const { stderr, status } = spawnSync(command, rest, { cwd: dir, encoding: "utf8", env: MPI_ENV });
  expect(status, stderr).toBe(0);
  const peaks = [...stderr.matchAll(/peak (\d+) kB/g)].map(([, kibibytes]) => Number(kibibytes) * 1024);
  const [, needed, unit] = /needs? ([\d.]+) (MB|GB) of/.exec(stderr) ?? [];
  return { peaks, needed: Number(needed) * (unit === "GB" ? 1e9 : 1e6) };
}

function expectWithin(measuredBytes: number, predictedBytes: number): void {
  expect(measuredBytes / predictedBytes).toBeGreaterThan(0.85);
  expect(measuredBytes / predictedBytes).toBeLessThan(1.15);
}

const SMALL = sets("model.preset=small");
const trainings: [string, string[]][] = [
  ["tiny", []],
  ["tiny on 4 ranks", ["-n", "4"]],
  ["tiny, a twin", ["-n", "2", "--prove-overlap", ...sets("train.batch_size=64")]],
  ["tiny-llama", sets("model.preset=tiny-llama", "train.batch_size=32")],
  ["small", SMALL],
  ["small on 2 ranks", ["-n", "2", ...SMALL]],
  ["small, ZeRO on 4 ranks", ["-n", "4", ...SMALL, ...sets("parallel.zero=true")]],
  ["small, recomputing", [...SMALL, ...sets("train.recompute=true")]],
  ["small, micro-batches", [...SMALL, ...sets("train.micro_batch_size=2")]],
  ["small, llama", [...SMALL, ...sets("model.style=llama")]],
  ["base", sets("model.preset=base", "data.sequence_length=512", "train.batch_size=4")],
];

describe("memory as predicted is within 15 % of the measured peak", () => {
  it.each(trainings)("train %s", (name, args) => {
    const out = name.replaceAll(/\W+/g, "-");
    const { peaks, needed } = measured([], ["train", "-o", out, ...STEPS, ...args]);
    expectWithin(peaks[0], needed);
  });

  it.each([
    ["eval", ["--batches", "2"]],
    ["eval", ["--batches", "2", "--batch-size", "16", "-n", "2"]],
    ["generate", ["--tokens", "5"]],
    ["generate", ["--tokens", "5", "-n", "2"]],
    ["generate", ["--tokens", "5", "--quantize", "int4"]],
    ["generate", ["--tokens", "5", "--quantize", "int4", "-n", "2"]],
    ["generate", ["--tokens", "5", "--prompt", "Our nation ".repeat(100)]],
  ])("%s %j", (command, args) => {
    for (const run of ["tiny", "small"]) {
      const { peaks, needed } = measured([], [command, run, ...args]);
      expectWithin(peaks[0], needed);
    }
  });

  it.runIf(HAS_MPI)("of every process under MPI", () => {
    const launcher = [...MPIRUN, "-n", "2"];
    const { peaks, needed } = measured(launcher, ["train", "-o", "mpi", ...STEPS, ...SMALL]);
    expect(peaks).toHaveLength(2);
    expectWithin(peaks[0] + peaks[1], needed);
  });
});

const GROUPS = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
const parent = GROUPS.find((path) => existsSync(join(path, "cgroup.procs")));
const isOld = parent === GROUPS[0];

describe.runIf(IS_ROOT && parent !== undefined)("a control group that is too small", () => {
  const group = join(parent ?? "", `scmoe-test-${process.pid}`);
  const LIMIT = 150 * 2 ** 20;
  beforeAll(() => {
    const few = sets("train.steps=1", "train.batch_size=2", "data.sequence_length=64");
    expect(scmoe(["train", "-q", "-o", "given", ...SMALL, ...few], dir).code).toBe(0);
    mkdirSync(group);
    writeFileSync(join(group, isOld ? "memory.limit_in_bytes" : "memory.max"), String(LIMIT));
  });
  afterAll(() => rmdirSync(group));
  const within = (...args: string[]) =>
    spawnSync(
      "sh",
      ["-c", `echo $$ > ${group}/cgroup.procs && exec "$@"`, "sh", process.execPath, CLI, ...args],
      {
        cwd: dir,
        encoding: "utf8",
      },
    );

  it("refuses a run with the figures instead of being killed, and writes nothing", () => {
    const { status, stderr } = within("train", "-o", "refused", ...SMALL);
    expect(stderr).toMatch(
      /^scmoe: 1 rank needs 1\.\d\d GB memory: .* left by the limit of 0\.2 GB of cgroup \/scmoe-test/,
    );
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(status).toBe(2);
    expect(existsSync(join(dir, "refused"))).toBe(false);
    for (const command of ["eval", "generate"])
      expect(within(command, "given")).toMatchObject({
        status: 2,
        stderr: expect.stringMatching(/^scmoe: 1 rank needs \d+ MB memory: .* left by the limit/),
      });
    expect(within("doctor", "--preset", "small").status).toBe(1);
  });

  it("that is large enough lets it train", () => {
    const { stdout } = scmoe(["train", "-o", "free", "--json", ...STEPS], dir);
    const { memory } = JSON.parse(stdout) as TrainResult;
    writeFileSync(
      join(group, isOld ? "memory.limit_in_bytes" : "memory.max"),
      String(Math.round(1.15 * memory.neededBytes)),
    );
    expect(within("train", "-o", "limited", ...STEPS).status).toBe(0);
    expect(readFileSync(join(dir, "limited", "metrics.jsonl"), "utf8")).toMatch(/"step":2/);
  });
});
