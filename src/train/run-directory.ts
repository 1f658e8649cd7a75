/** The directory of a run, before its first step. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { EnvironmentError } from "../core/errors.js";
import { VERSION } from "../core/version.js";
import { newestCheckpoint, whatIsSaved } from "../storage/checkpoint-names.js";
import { removeUnfinished } from "../storage/checkpoint-writer.js";
import { makeDirectory, replaceFile } from "../storage/files.js";
import type { RunConfig } from "./config.js";

/** Whether a directory holds a run that something would be lost of: one with a checkpoint. */
export function holdsRun(directory: string): boolean {
  return newestCheckpoint(directory) !== undefined;
}

/** Writes something of a run; where it cannot be written, the message ends with what is there to go on from. */
export function writeOfRun<T>(directory: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    if (!(error instanceof EnvironmentError)) throw error;
    throw new EnvironmentError(`${error.message}; ${whatIsSaved(join(directory, "checkpoints"))}`);
  }
}

/** Makes the directory and `run.json`: the resolved config, and what it runs on. @throws EnvironmentError */
export function startRun(directory: string, facts: { ranks: number; config: RunConfig }): void {
  makeDirectory(join(directory, "checkpoints"));
  removeAttempt(directory);
  const { ranks, config } = facts;
  const started = new Date().toISOString();
  const run = { scmoe: VERSION, node: process.version, ranks, started, config };
  replaceFile(join(directory, "run.json"), `${JSON.stringify(run, undefined, 2)}\n`);
}

/** An attempt that ended before its first checkpoint left rows that would be mixed with the new run's. */
function removeAttempt(directory: string): void {
  removeUnfinished(join(directory, "checkpoints"));
  for (const name of readdirSync(directory))
    if (name === "metrics.jsonl" || name.startsWith("events.out.tfevents.")) rmSync(join(directory, name));
}
