/** Every command of the README's code blocks, in its order, as a reader would type it. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CLI, HAS_MPI, IS_ROOT, MPI_ENV, scmoe, temporaryDirectory } from "../helpers.js";

const ROOT = dirname(fileURLToPath(new URL("../../package.json", import.meta.url)));
const dir = temporaryDirectory();

/** Not run here: `.ci/run` is what installs, tests and starts; the others are not commands of this machine. */
const ELSEWHERE = [/^npm (ci|start|test)\b/, /^npm run build:mpi$/, /path\/to\//, /launch .*--hosts a,b/];
/** Training gets Ctrl-C once it is under way, and must go on from there. */
const IS_TRAINING = /scmoe train (?!.*--dry-run)/;
const UNDER_WAY = / ([4-9]|\d\d)\/\d+ /;
/** The launcher ends its ranks in its own way. */
const LAUNCHER = /mpirun|hosts\.sh/;
/** Benchmarks measure one small round: here it matters that they run. */
const SMALL = "bench compare --rounds 1 --width 64 --pairs 2 --sequence 64 --batch 2";

const BRIEF = "--clients 2 --duration 1";
/** Goes on until it is stopped: the commands after it ask it. */
const IS_SERVER = /scmoe serve/;
const HAS_CURL = spawnSync("curl", ["--version"]).status === 0;

const commands = [...readFileSync(join(ROOT, "README.md"), "utf8").matchAll(/```sh\n([^]*?)```/g)]
  .flatMap(([, block]) => block.split("\n"))
  .map((line) =>
    line
      .replace(/\s+#.*/, "")
      .replace(/^sudo /, "")
      .trim(),
  )
  .filter((line) => line !== "" && !ELSEWHERE.some((pattern) => pattern.test(line)));

interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly isInterrupted: boolean;
}

/** In a shell of its own; Ctrl-C goes to all of its processes, as from a terminal. */
function run(line: string): Promise<Ended> {
  const command = line.replaceAll("bench compare", SMALL).replace(/--clients \S+ --duration \d+/, BRIEF);
  return new Promise((resolve) => {
    // The trap: a shell that Ctrl-C kills would hide how the command ended.
    const child = spawn("sh", ["-c", `trap : INT; ${command}`], {
      cwd: dir,
      env: MPI_ENV,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [output, isInterrupted] = ["", false];
    const read = (text: Buffer): void => {
      output += String(text);
      if (isInterrupted || !IS_TRAINING.test(line) || !UNDER_WAY.test(output)) return;
      isInterrupted = true;
      process.kill(-(child.pid as number), "SIGINT");
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("close", (code) => resolve({ code, output, isInterrupted }));
  });
}

let server: ChildProcess | undefined;

/** Comes back once it listens. */
function startServer(line: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server = spawn("sh", ["-c", `trap : INT; ${line}`], { cwd: dir, detached: true });
    server.stdout?.on("data", (text: Buffer) => String(text).includes("listening") && resolve());
    server.on("close", (code) => reject(new Error(`the server ended with ${code}`)));
  });
}

afterAll(async () => {
  if (server === undefined) return;
  const ended = new Promise((resolve) => server?.on("close", resolve));
  process.kill(-(server.pid as number), "SIGINT");
  // The server's is 0; npx tells of the signal that it was sent itself.
  expect([0, 130]).toContain(await ended);
});

beforeAll(() => {
  // What a reader has after `npm ci && npm start`, made in a few steps; and the config file that the README speaks of.
  mkdirSync(join(dir, "node_modules", ".bin"), { recursive: true });
  const script = `#!/bin/sh\nexec ${process.execPath} ${CLI} "$@"\n`;
  writeFileSync(join(dir, "node_modules", ".bin", "scmoe"), script, { mode: 0o755 });
  symlinkSync(join(ROOT, "scripts"), join(dir, "scripts"));
  writeFileSync(join(dir, "mine.yaml"), "model:\n  preset: tiny\ntrain:\n  steps: 10\n");
  const { code, stdout, stderr } = scmoe(["start", "--steps", "4", "--out", "runs/start"], dir);
  expect(code, stderr).toBe(0);
  // No terminal: plain lines.
  expect(stdout + stderr).not.toMatch(/[\u001b\r]/);
  expect(stderr).toMatch(/^ {5}4 .*\d\.\d{3} +[\d,]+ +\d\.\d{3} +[\d,]+$/m);
  expect(readFileSync(join(dir, "runs/start/tour.svg"), "utf8")).toContain("Training loss over time");
  makeModels();
});

/** The published folders that the README speaks of, and a book. */
function makeModels(): void {
  const words = "the people of this nation have asked for peace and work, and they shall have both. ";
  writeFileSync(join(dir, "book.txt"), words.repeat(2000));
  const sets = [
    ...["preset=tiny-llama", "arch=top2", "moe_layer_interval=1", "tie_word_embeddings=false"],
    ...["vocab_size=512", "max_position_embeddings=512"],
  ].map((set) => `model.${set}`);
  sets.push("data.corpus=book.txt", "data.sequence_length=64", "train.steps=1", "train.eval_batches=1");
  const trained = ["train", "-q", "-o", "made", ...sets.flatMap((set) => ["--set", set])];
  for (const line of [trained, ["export", "made", "models/mixtral"]]) {
    const { code, stderr } = scmoe(line, dir);
    expect(code, stderr).toBe(0);
  }
  cpSync(join(ROOT, "test/fixtures/hf/longcat-flash"), join(dir, "models/longcat"), { recursive: true });
}

it("the README has commands", () => expect(commands.length).toBeGreaterThan(12));

const isPossible = (line: string): boolean =>
  (HAS_CURL || !line.startsWith("curl")) &&
  (!LAUNCHER.test(line) || (HAS_MPI && (IS_ROOT || !/hosts/.test(line))));

describe.each(commands)("%s", (line) =>
  it.skipIf(!isPossible(line))("runs", async () => {
    if (IS_SERVER.test(line)) return startServer(line);
    const { code, output, isInterrupted } = await run(line);
    if (line.startsWith("curl")) expect(output).toContain('"text_completion"');
    expect(output).not.toMatch(/^\s+at .*\.js:\d+/m);
    if (isInterrupted && LAUNCHER.test(line)) expect(code).not.toBe(0);
    else expect(code, output).toBe(isInterrupted ? 130 : 0);
    const written = /(?:--out|-o|--calibration) (\S+)/.exec(line)?.[1];
    if (written !== undefined) expect(existsSync(join(dir, written)), `${written} of: ${line}`).toBe(true);
  }),
);
