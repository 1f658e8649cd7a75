/** Steps carried out by ranks that are MPI processes: rank 0's process asks, the other has only the job. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { GREEDY } from "../../src/infer/sampling/sampling-parameters.js";
import { builtFakeJob, nextToken } from "../fake-model.js";
import { HAS_MPI, MPIRUN, MPI_ENV, temporaryDirectory } from "../helpers.js";

const dir = temporaryDirectory();
const dist = new URL("../../dist/", import.meta.url).href;
const { module, name } = builtFakeJob();

/** Reads a prompt of [1] on both ranks, idles longer than the deadline, decodes a token on each. */
const PROGRAM = `
  import { writeFileSync } from "node:fs";
  import { setTimeout as sleep } from "node:timers/promises";
  import { launchRunner } from "${dist}infer/ranks/launched-runner.js";
  import { ${name} } from "${module}";
  const [trouble, file] = process.argv.slice(2);
  writeFileSync(file + "." + process.env.OMPI_COMM_WORLD_RANK, String(process.pid));
  const { runner, ended } = await launchRunner(${name}, { trouble }, { deadlineMs: 1_000 });
  if (runner === undefined) {
    await ended;
    console.log("the other has ended");
  } else {
    const nothing = { ended: [], cache: [], starts: [], decode: [] };
    const starts = (rank) => [{ sequence: rank, prompt: [1], sampling: ${JSON.stringify(GREEDY)}, written: [] }];
    const plan = (of) => ({ ranks: [0, 1].map((rank) => ({ ...nothing, ...of(rank) })) });
    const first = await runner.run(plan((rank) => ({ starts: starts(rank), prefill: { sequence: rank, slot: 0, start: 0, end: 1 } })));
    await sleep(1_500);
    console.log("waited " + runner.shape.ranks);
    if (trouble === "killed") await ended;
    const second = await runner.run(plan((rank) => ({ decode: [rank] })));
    for (const { ranks } of [first, second]) console.log(ranks.flatMap(({ sampled }) => sampled.map(({ token }) => token.id)).join());
    console.log(JSON.stringify(await runner.ask("who?")));
    await runner.close();
  }`;

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

async function mpirun(trouble: string, during?: (pidOf: (rank: number) => number) => void): Promise<Ended> {
  const program = join(dir, "program.mjs");
  const pids = join(dir, `${trouble}.pid`);
  writeFileSync(program, PROGRAM);
  const args = [...MPIRUN.slice(1), "-n", "2", process.execPath, program, trouble, pids];
  const child = spawn(MPIRUN[0], args, { cwd: dir, env: MPI_ENV, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data: Buffer) => (output += data.toString()));
  const end = new Promise<number | null>((resolve) => child.on("close", resolve));
  if (during !== undefined) {
    while (!output.includes("waited") || !existsSync(`${pids}.1`)) {
      if (child.exitCode !== null) throw new Error(`the program ended at once: ${output}`);
      await sleep(20);
    }
    during((rank) => Number(readFileSync(`${pids}.${rank}`, "utf8")));
  }
  return { code: await end, output };
}

describe.skipIf(!HAS_MPI)("a runner over MPI", () => {
  it("carries out steps, waits longer than a deadline for them, and ends all processes", async () => {
    const { code, output } = await mpirun("none");
    const [first, second] = [nextToken([1]), nextToken([1, nextToken([1])])];
    expect(output).toContain("waited 2\n");
    expect(output).toContain(
      `${first},${first}\n${second},${second}\n{"question":"who?","ranks":2,"rows":2}`,
    );
    expect(output).toContain("the other has ended");
    expect(code).toBe(0);
  });

  it.each([
    ["throws", /scmoe: rank 1: broken in the middle/],
    ["exits", /scmoe: rank 1: its thread ended unexpectedly \(exit code 3\)/],
    ["throws while opening", /scmoe: rank 1: no such model/],
  ])("a rank that %s ends all, by name", async (trouble, message) => {
    const { code, output } = await mpirun(trouble);
    expect(output).toMatch(message);
    expect(code).not.toBe(0);
  });

  it("a rank that is killed while nobody asks for anything is named", async () => {
    const { code, output } = await mpirun("killed", (pidOf) => process.kill(pidOf(1), "SIGKILL"));
    expect(output).toMatch(/scmoe: rank 0: lost rank 1 \(host .*\), whose process has ended/);
    expect(code).not.toBe(0);
  });
});
