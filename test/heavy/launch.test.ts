/** A program of a user's own under `mpirun`: its job runs on ranks as processes, and an `AbortSignal` stops them. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { HAS_MPI, MPI_ENV, temporaryDirectory } from "../helpers.js";

const dir = temporaryDirectory();
const index = new URL("../../dist/index.js", import.meta.url).href;

/** `launching` is the program; its job runs until a rank is asked to stop. */
function mpirun(name: string, launching: string): { code: number | null; lines: unknown[]; stderr: string } {
  const file = join(dir, `${name}.mjs`);
  writeFileSync(
    file,
    `import { isMainThread } from "node:worker_threads";
     import { defineJob, launch, maxScalars } from "${index}";
     export const job = defineJob(import.meta.url, "job", async ({ world, interrupted, say }) => {
       say("started");
       for (;;) {
         if (maxScalars(world, [interrupted() ? 1 : 0], "stop?")[0] > 0) return [world.rank, world.size, world.kind];
         await new Promise((resolve) => setTimeout(resolve, 1));
       }
     });
     const print = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
     if (isMainThread) { ${launching} }`,
  );
  const args = ["--bind-to", "none", "--oversubscribe", "-n", "2", process.execPath, file];
  const { status, stdout, stderr } = spawnSync("mpirun", args, {
    env: MPI_ENV,
    encoding: "utf8",
    timeout: 60_000,
  });
  const lines = stdout
    .trim()
    .split("\n")
    .filter((line) => line !== "");
  return { code: status, lines: lines.map((line) => JSON.parse(line) as unknown), stderr };
}

it.skipIf(!HAS_MPI).each([
  ["aborted on one rank", `process.env.OMPI_COMM_WORLD_RANK === "1" ? AbortSignal.timeout(300) : undefined`],
  ["aborted before", `AbortSignal.abort()`],
])("a job that is %s stops on all", (name, signal) => {
  const { code, lines, stderr } = mpirun(
    name,
    `const onEvent = (event) => print(event);
     print((await launch(job, {}, { signal: ${signal}, onEvent })).result);`,
  );
  expect(stderr).toBe("");
  expect(code).toBe(0);
  expect(lines).toHaveLength(3);
  expect(lines).toEqual(
    expect.arrayContaining([{ kind: "message", line: "started" }, [0, 2, "mpi"], [1, 2, "mpi"]]),
  );
});

it.skipIf(!HAS_MPI)("a rank that throws says why, and the lowest of the others names it, once", () => {
  const file = join(dir, "throws.mjs");
  writeFileSync(
    file,
    `import { isMainThread } from "node:worker_threads";
     import { EnvironmentError, defineJob, launch, maxScalars } from "${index}";
     export const job = defineJob(import.meta.url, "job", async ({ world, completed }) => {
       for (let step = 1; ; step++) {
         maxScalars(world, [step], "meeting");
         completed(step);
         if (world.rank === 1 && step === 9) throw new EnvironmentError("the sensor is broken");
       }
     });
     if (isMainThread) await launch(job, {});`,
  );
  const args = ["--bind-to", "none", "--oversubscribe", "-n", "3", process.execPath, file];
  const { stderr } = spawnSync("mpirun", args, { env: MPI_ENV, encoding: "utf8", timeout: 60_000 });
  expect(stderr.match(/^scmoe: .*$/gm)).toEqual([
    "scmoe: rank 1: the sensor is broken; last completed step 9",
    expect.stringMatching(
      /^scmoe: rank 0: lost rank 1 \(host \S+\), whose process has ended, while in meeting; last completed step 9$/,
    ),
  ]);
});
