/** What a run starts from: a config and a fresh directory, or a directory that holds a run already. */
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { readText } from "../storage/files.js";
import { type RunConfig, type RunInput, readRunConfig } from "./config.js";
import { holdsRun } from "./run-directory.js";

/** Where a run comes from. */
export interface RunSource {
  /** Sections model, data, train, parallel, schedule; or a YAML file with them. Default: the preset "tiny". */
  readonly config?: RunInput | string | undefined;
  /** Overrides of one key each, "train.steps=100"; values are YAML. */
  readonly sets?: readonly string[] | undefined;
  /** Where the run is kept. Default: runs/ and the architecture's name. */
  readonly directory?: string | undefined;
  /** A run directory to continue from its newest checkpoint, or one of its checkpoints to go back to. */
  readonly resume?: string | undefined;
}

/** A config resolved, and where the run is kept. */
export interface OpenedRun {
  readonly config: RunConfig;
  readonly directory: string;
  readonly resume: boolean;
  /** With `resume`: the checkpoint to go back to. Default: the newest. */
  readonly checkpoint?: string | undefined;
}

/**
 * Reads and checks; writes nothing.
 * @throws InputError when the config is wrong, or the directory is not what was said
 */
export function openRun(source: RunSource): OpenedRun {
  return source.resume === undefined ? fresh(source) : resumed(source.resume, source);
}

function fresh({ config: given, sets = [], directory: wanted }: RunSource): OpenedRun {
  const config =
    typeof given === "object" ? readRunConfig(undefined, sets, given) : readRunConfig(given, sets);
  const directory = wanted ?? join("runs", String(config.model.arch));
  if (existsSync(directory) && !statSync(directory).isDirectory())
    throw new InputError(`${directory} is a file; wanted a directory for the run`);
  return { config, directory, resume: false };
}

/** @throws InputError when a fresh run would mix with one that is there */
export function refuseToMix({ directory, resume }: OpenedRun): void {
  if (!resume && holdsRun(directory))
    throw new InputError(
      `${directory} already holds a run; resume ${directory} to continue it, or choose another directory`,
    );
}

function resumed(path: string, { config: given, sets = [], directory: wanted }: RunSource): OpenedRun {
  if (given !== undefined || wanted !== undefined)
    throw new InputError(
      "resume takes the config and directory of the run; leave out both (single keys may be set)",
    );
  const isCheckpoint = existsSync(join(path, "trainer_state.json"));
  const directory = isCheckpoint ? dirname(dirname(path)) : path;
  const file = join(directory, "run.json");
  if (!existsSync(file)) throw new InputError(`${directory} holds no run: ${file} is missing`);
  const text = readText(file, "the run");
  let stored: { config?: RunConfig } | null = null;
  try {
    stored = JSON.parse(text) as { config?: RunConfig } | null;
  } catch {
    throw new InputError(`${file} is damaged: it is not JSON`);
  }
  if (typeof stored?.config !== "object") throw new InputError(`${file} is damaged: it has no config`);
  const config = readRunConfig(undefined, sets, stored.config);
  return { config, directory, resume: true, checkpoint: isCheckpoint ? path : undefined };
}
