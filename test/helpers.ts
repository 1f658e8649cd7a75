import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const CLI = new URL("../dist/cli/main.js", import.meta.url).pathname;

export function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), "scmoe-test-"));
}

/** Steps that a run has written whole so far, while it goes on writing: its last line may be half there. */
export function numSteps(directory: string): number {
  const path = join(directory, "metrics.jsonl");
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").length - 1 : 0;
}

/** Rows of a run's metrics. */
export function metricRows(directory: string): Record<string, unknown>[] {
  const lines = readFileSync(join(directory, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Writes documents of a few words each, more than one to a window of 32 tokens. @returns the corpus' directory */
export function shortDocuments(): string {
  const directory = temporaryDirectory();
  const words = "the people of this nation have asked for peace and work".split(" ");
  for (let d = 0; d < 200; d++) {
    const length = 2 + ((d * 7) % 9);
    const text = Array.from({ length }, (_, i) => words[(d * d + 3 * i) % words.length]).join(" ");
    writeFileSync(join(directory, `${String(d).padStart(3, "0")}.txt`), text);
  }
  return directory;
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that hangs fails its test instead of stopping them all. */
const LONGEST_MS = 200_000;
/** A comparison of everything is more than the megabyte that Node allows by default. */
const MOST_OUTPUT_BYTES = 2 ** 26;

/** Runs the command line as a user would. */
export function scmoe(args: readonly string[], cwd: string): Ran {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], {
    cwd,
    encoding: "utf8",
    timeout: LONGEST_MS,
    maxBuffer: MOST_OUTPUT_BYTES,
    killSignal: "SIGKILL",
  });
  return { code: status, stdout, stderr };
}

/** A model small enough to train in a second. */
export const MINI = [
  "model.vocab_size=300",
  "model.hidden_size=32",
  "model.intermediate_size=64",
  "model.num_attention_heads=2",
  "model.num_hidden_layers=4",
  "model.num_experts=4",
  "model.max_position_embeddings=32",
  "model.arch=scmoe-pos2",
  "train.batch_size=8",
  "train.steps=6",
  "train.eval_batches=1",
].flatMap((set) => ["--set", set]);

/** What tests need that not every machine has; `.ci/run` installs it. */
export const HAS_MPI = spawnSync("mpirun", ["--version"]).status === 0;
export const MPIRUN = ["mpirun", "--bind-to", "none", "--oversubscribe"];
export const IS_ROOT = process.getuid?.() === 0;
export const MPI_ENV = {
  ...process.env,
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
};
