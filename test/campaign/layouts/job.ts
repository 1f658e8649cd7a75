/** Cases in a row on the ranks of one launch, which share compiled kernels; and what starts such launches. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { collectGarbage } from "../../../src/core/garbage.js";
import type { Engine } from "../../../src/engine/engine.js";
import { createOrtEngine } from "../../../src/engine/ort-engine.js";
import { type JobContext, defineJob } from "../../../src/launch/job.js";
import { launch } from "../../../src/launch/launch.js";
import type { Case } from "./case.js";
import { type Played, playLayout } from "./play.js";
import { playReference } from "./reference.js";

export interface Task {
  readonly of: Case;
  /** Its layout, or what one rank runs in its stead; nudged: with weights that differ by rounding. */
  readonly side: "layout" | "one" | "nudged";
}

interface PlayedEvent {
  readonly kind: "played";
  readonly index: number;
  readonly played: Played;
}

/** Arenas reserve addresses, and a rank makes many here. */
const MOST_ARENA_BYTES = 2 ** 25;
const COLLECT_INTERVAL = 10;

export const layoutsJob = defineJob(
  import.meta.url,
  "layoutsJob",
  (context: JobContext<PlayedEvent>, tasks: readonly Task[]): void => {
    const ort = createOrtEngine();
    const engine: Engine = {
      ...ort,
      newArena: (bytes, label) => ort.newArena(Math.min(bytes, MOST_ARENA_BYTES), label),
    };
    try {
      tasks.forEach(({ of, side }, index) => {
        const played =
          side === "layout"
            ? playLayout(context.world, engine, of)
            : playReference(engine, of, side === "nudged");
        context.emit({ kind: "played", index, played });
        if (index % COLLECT_INTERVAL === 0) collectGarbage();
      });
    } finally {
      ort.dispose();
    }
  },
);

/** Hears of each task once: what was played, or why nothing was. */
export type Heard = (task: Task, outcome: Played | string) => void;

const DEADLINE_MS = 60_000;

/** A task that fails ends its launch; the others go on in another. */
async function playAll(
  tasks: readonly Task[],
  heard: Heard,
  play: (left: readonly Task[], played: (of: Played) => void) => Promise<string | undefined>,
): Promise<void> {
  let left = tasks;
  while (left.length > 0) {
    let done = 0;
    const failure = await play(left, (played) => heard(left[done++], played));
    if (done < left.length) heard(left[done++], failure ?? "nothing was played");
    left = left.slice(done);
  }
}

export function playOnThreads(ranks: number, tasks: readonly Task[], heard: Heard): Promise<void> {
  return playAll(tasks, heard, async (left, played) => {
    try {
      await launch(layoutsJob, left, {
        ranks,
        deadlineMs: DEADLINE_MS,
        onEvent: (event) => {
          if (event.kind === "played") played(event.played);
        },
      });
      return undefined;
    } catch (error) {
      return (error as Error).message.split("\n")[0];
    }
  });
}

/** One `mpirun` for all tasks. */
export function playOnMpi(ranks: number, tasks: readonly Task[], heard: Heard): Promise<void> {
  return playAll(tasks, heard, async (left, played) => {
    const home = mkdtempSync(join(tmpdir(), "scmoe-layouts-mpi-"));
    try {
      writeFileSync(join(home, "tasks"), JSON.stringify(left));
      const program = `import(${JSON.stringify(import.meta.url)}).then((m) => m.underMpi(${JSON.stringify(home)}))`;
      const said = await run("mpirun", [
        "--bind-to",
        "none",
        "--oversubscribe",
        "-n",
        String(ranks),
        process.execPath,
        "-e",
        program,
      ]);
      for (let i = 0; existsSync(join(home, String(i))); i++)
        played(deserialize(readFileSync(join(home, String(i)))) as Played);
      return said;
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
}

/** What each process of `mpirun` runs. */
export async function underMpi(home: string): Promise<void> {
  const tasks = JSON.parse(readFileSync(join(home, "tasks"), "utf8")) as Task[];
  await launch(layoutsJob, tasks, {
    deadlineMs: DEADLINE_MS,
    onEvent: (event) => {
      if (event.kind === "played") writeFileSync(join(home, String(event.index)), serialize(event.played));
    },
  });
}

function run(command: string, args: readonly string[]): Promise<string> {
  const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" };
  const child = spawn(command, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  const said: Buffer[] = [];
  child.stderr.on("data", (part: Buffer) => said.push(part));
  return new Promise((resolve) =>
    child.on("close", (code) => {
      const lines = Buffer.concat(said).toString().trim().split("\n");
      resolve(`mpirun ended with ${code}: ${lines.find((line) => line.startsWith("scmoe")) ?? lines[0]}`);
    }),
  );
}

/** Whether there is `mpirun`, and the addon beside the build. */
export function whyNoMpi(): string | undefined {
  if (spawnSync("mpirun", ["--version"]).status !== 0) return "no mpirun";
  const addon = new URL("../native/libscmoe_mpi.so", import.meta.url);
  return existsSync(addon) ? undefined : "the addon is not built: npm run build:mpi";
}
