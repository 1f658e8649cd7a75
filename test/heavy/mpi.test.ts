/** Ranks as MPI processes: the same bits as threads; killed and stopped ranks; two hosts. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { philox } from "../../src/core/rng.js";
import {
  CLI,
  HAS_MPI,
  IS_ROOT,
  MINI,
  MPIRUN,
  MPI_ENV,
  numSteps,
  scmoe,
  temporaryDirectory,
} from "../helpers.js";
import { pidOfRank } from "../processes.js";

const dir = temporaryDirectory();
const STEPS = 300;
/** Many more, at chosen moments and on more ranks: the campaign `kills`. */
const KILLS = 3;
const STOPS = 3;
const LONG = [...MINI, "--set", `train.steps=${STEPS}`, "--set", "train.checkpoint_interval=5"];

const losses = (run: string): string[] =>
  readFileSync(join(dir, run, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => {
      const { step, loss, grad_norm } = JSON.parse(line) as Record<string, number>;
      return `${step} ${loss} ${grad_norm}`;
    });

function mpirun(ranks: number, args: readonly string[]): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(
    MPIRUN[0],
    [...MPIRUN.slice(1), "-n", String(ranks), process.execPath, CLI, ...args],
    { cwd: dir, env: MPI_ENV, encoding: "utf8" },
  );
  return { code: status, output: stdout + stderr };
}

async function until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(20)) if (condition()) return true;
  return false;
}

interface Disturbed {
  readonly output: string;
  readonly code: number | null;
  readonly ms: number;
}

/** Starts a run on two ranks, disturbs one of them some time after its first checkpoint (or its start), and waits for the end. */
async function disturb(
  out: string,
  rank: number,
  signal: NodeJS.Signals,
  delayMs: number,
  isReady = (): boolean => existsSync(join(dir, out, "checkpoints", "latest")),
  ranks = 2,
): Promise<Disturbed> {
  const child: ChildProcess = spawn(
    MPIRUN[0],
    [
      ...MPIRUN.slice(1),
      "-n",
      String(ranks),
      process.execPath,
      CLI,
      "train",
      "-q",
      "-o",
      out,
      "--deadline",
      "5",
      ...LONG,
      ...(ranks === 3 ? ["--set", "train.batch_size=9", "--set", "model.num_experts=6"] : []),
    ],
    { cwd: dir, env: MPI_ENV, stdio: ["ignore", "pipe", "pipe"] },
  );
  let output = "";
  child.stdout?.on("data", (data: Buffer) => (output += data.toString()));
  child.stderr?.on("data", (data: Buffer) => (output += data.toString()));
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  expect(await until(isReady, 30_000)).toBe(true);
  await sleep(delayMs);
  const pid = pidOfRank(out, rank);
  expect(pid, `rank ${rank} is running`).toBeDefined();
  const start = Date.now();
  process.kill(pid as number, signal);
  const code = await ended;
  const ms = Date.now() - start;
  expect(await until(() => pidOfRank(out, 0) === undefined && pidOfRank(out, 1) === undefined, 5_000)).toBe(
    true,
  );
  return { output, code, ms };
}

describe.skipIf(!HAS_MPI)("MPI", () => {
  it.each([2, 4])("gives the same bits as threads on %i ranks", (ranks) => {
    const { code, output } = mpirun(ranks, ["train", "-q", "-o", `mpi-${ranks}`, ...MINI]);
    expect([code, output]).toEqual([0, expect.stringContaining("validation loss")]);
    expect(scmoe(["train", "-q", "-n", String(ranks), "-o", `threads-${ranks}`, ...MINI], dir).code).toBe(0);
    expect(losses(`mpi-${ranks}`)).toEqual(losses(`threads-${ranks}`));
  });

  it("refuses ranks with different configs, naming what differs", () => {
    const one = ["-n", "1", process.execPath, CLI, "train", "-q", "-o", "differ", ...MINI];
    const { status, stderr } = spawnSync(
      MPIRUN[0],
      [...MPIRUN.slice(1), ...one, ":", ...one, "--set", "train.seed=9"],
      {
        cwd: dir,
        env: MPI_ENV,
        encoding: "utf8",
      },
    );
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/Ranks disagree on train\.seed: rank 0 has 0, rank 1 has 9; start all/);
  });

  it("mpirun hands on SIGUSR2: the step is finished and saved, and the run goes on from there", async () => {
    const args = ["-n", "2", process.execPath, CLI, "train", "-o", "asked", ...LONG];
    const child = spawn(MPIRUN[0], [...MPIRUN.slice(1), ...args], {
      cwd: dir,
      env: MPI_ENV,
      stdio: "ignore",
    });
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    const hasSteps = (): boolean => numSteps(join(dir, "asked")) > 2;
    expect(await until(hasSteps, 60_000)).toBe(true);
    child.kill("SIGUSR2");
    expect(await ended).toBe(130);
    const steps = losses("asked").length;
    expect(steps).toBeLessThan(STEPS);
    const resumed = scmoe(["train", "-q", "--json", "--resume", "asked", "-n", "2"], dir);
    expect(resumed.code, resumed.stderr).toBe(0);
    expect(losses("asked").length).toBe(STEPS);
  });

  describe("a rank that is lost", () => {
    it("is survived by the last checkpoint: resumed runs equal undisturbed ones", async () => {
      expect(scmoe(["train", "-q", "-n", "2", "-o", "undisturbed", ...LONG], dir).code).toBe(0);
      const random = philox(2026, "kills");
      for (let i = 0; i < KILLS; i++) {
        const out = `killed-${i}`;
        const rank = random.u32(2 * i) % 2;
        const { output, code, ms } = await disturb(out, rank, "SIGKILL", random.uniform(2 * i + 1) * 600);
        expect(code).not.toBe(0);
        expect(ms).toBeLessThan(10_000);
        expect(output).toMatch(new RegExp(`rank ${rank}.*signal 9|signal 9.*rank ${rank}`, "s"));
        expect(output.match(/^scmoe: .*$/gm)).toEqual([
          expect.stringMatching(
            new RegExp(
              `^scmoe: rank ${1 - rank}: lost rank ${rank} \\(host \\S+\\), whose process has ended, while in \\S.*; last completed step \\d+$`,
            ),
          ),
        ]);
        expect(scmoe(["train", "-q", "--resume", out, "-n", "2"], dir).stderr).toBe("");
        expect(losses(out)).toEqual(losses("undisturbed"));
      }
    }, 900_000);

    it.each([0, 1, 2])("is named once, by the lowest of three: rank %i", async (rank) => {
      const { output } = await disturb(`lost-${rank}`, rank, "SIGKILL", 0, undefined, 3);
      const told = `scmoe: rank ${rank === 0 ? 1 : 0}: lost rank ${rank} (host `;
      expect(output.match(/^scmoe: .*$/gm)).toEqual([expect.stringContaining(told)]);
      expect(output).toMatch(/whose process has ended, while in \S.*; last completed step \d+$/m);
    });

    it("is named when it is only stopped", async () => {
      for (let i = 0; i < STOPS; i++) {
        const { output, code, ms } = await disturb(`stopped-${i}`, 1, "SIGSTOP", 100 * i);
        expect(code).not.toBe(0);
        expect(ms).toBeLessThan(20_000);
        expect(output).toMatch(
          /rank 0: .*no answer from rank 1 \(last seen in \S.*\) within 5 s; missing: rank 1 \(host \S+\); last completed step \d+/,
        );
      }
    });
  });

  it("a rank stopped in start-up, or while a checkpoint is written, is missed", async () => {
    const started = await disturb(
      "stopped-early",
      1,
      "SIGSTOP",
      0,
      () => pidOfRank("stopped-early", 1) !== undefined,
    );
    expect(started.code).not.toBe(0);
    expect(started.ms).toBeLessThan(40_000);
    expect(started.output).toMatch(/rank 0: (MPI did not start within 20 s|.*no answer from rank 1)/);
    const folder = join(dir, "stopped-writing", "checkpoints");
    const isWriting = (): boolean =>
      existsSync(folder) && readdirSync(folder).some((name) => name.endsWith(".tmp"));
    const writing = await disturb("stopped-writing", 1, "SIGSTOP", 0, isWriting);
    expect(writing.code).not.toBe(0);
    expect(writing.output).toMatch(/rank 0: .*no answer from rank 1 \(last seen in \S.*\) within 5 s/);
  });

  it.skipIf(!IS_ROOT)("trains across two hosts with the bits of one", () => {
    const hosts = new URL("../../scripts/hosts.sh", import.meta.url).pathname;
    const { status, stdout, stderr } = spawnSync(
      hosts,
      ["2", "400mbit", process.execPath, CLI, "train", "-q", "-o", "hosts", ...MINI],
      { cwd: dir, encoding: "utf8" },
    );
    expect([status, stderr + stdout]).toEqual([0, expect.stringContaining("validation loss")]);
    expect(scmoe(["train", "-q", "-n", "2", "-o", "one-host", ...MINI], dir).code).toBe(0);
    expect(losses("hosts")).toEqual(losses("one-host"));
    expect(spawnSync("ip", ["netns", "list"], { encoding: "utf8" }).stdout).not.toMatch(/scmoe\d+-/);
  });
});
