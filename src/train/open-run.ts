/** What a run starts from: a config and a fresh directory, or a directory that holds a run already. */
import { dirname, join } from "node:path";
import { InputError } from "../core/errors.js";
import { exists, isDirectory } from "../storage/files.js";
import { type Change, changeText, changesBetween, effectOf } from "./changes.js";
import { type RunConfig, type RunInput, readRunConfig, resolveRun } from "./config.js";
import { refuseOtherShapes, startingPoint } from "./from.js";
import { type RunRecord, holdsRun, readRunRecord } from "./run-directory.js";

/** Where a run comes from. */
export interface RunSource {
  /** Sections model, data, train, parallel, schedule; or a YAML file with them. Default: the preset "tiny". */
  readonly config?: RunInput | string | undefined;
  /** Overrides of one key each, "train.steps=100"; values are YAML. */
  readonly sets?: readonly string[] | undefined;
  /** A run, checkpoint or published folder whose weights and tokenizer a new run starts with. */
  readonly from?: string | undefined;
  /** Where the run is kept. Default: runs/ and the architecture's name. */
  readonly directory?: string | undefined;
  /** A run directory to continue from its newest checkpoint, or one of its checkpoints to go back to. */
  readonly resume?: string | undefined;
  /** With `resume`: the run may go on as another one, with another corpus, tokenizer, seed, batch or model key. */
  readonly allowChange?: boolean | undefined;
}

/** A config resolved, and where the run is kept. */
export interface OpenedRun {
  readonly config: RunConfig;
  readonly directory: string;
  readonly resume?: ResumedRun | undefined;
  /** Where the weights of a new run come from. */
  readonly from?: string | undefined;
}

export interface ResumedRun {
  /** What run.json says: the run as it was. */
  readonly before: RunRecord;
  /** Keys that were set to other values. */
  readonly changes: readonly Change[];
  readonly allowChange: boolean;
  /** The checkpoint to go back to. Default: the newest. */
  readonly checkpoint?: string | undefined;
}

/**
 * Reads and checks; writes nothing.
 * @throws InputError when the config is wrong, the directory is not what was said, or a change is not allowed
 */
export function openRun(source: RunSource): OpenedRun {
  if (source.resume !== undefined && source.from !== undefined)
    throw new InputError("A run is resumed, or starts from a model: leave out one of the two");
  if (source.resume !== undefined) return resumed(source.resume, source);
  if (source.allowChange) throw new InputError("A change can only be allowed when a run is resumed");
  return fresh(source);
}

function fresh({ config: given, sets = [], directory: wanted, from: path }: RunSource): OpenedRun {
  const start = path === undefined ? undefined : startingPoint(path);
  const config =
    typeof given === "object"
      ? readRunConfig(undefined, sets, given, start)
      : readRunConfig(given, sets, {}, start);
  if (start !== undefined) refuseOtherShapes(config, start);
  const directory = wanted ?? join("runs", String(config.model.arch));
  if (exists(directory) && !isDirectory(directory))
    throw new InputError(`${directory} is a file; wanted a directory for the run`);
  return { config, directory, from: path };
}

/** @throws InputError when a fresh run would mix with one that is there */
export function refuseToMix({ directory, resume }: OpenedRun): void {
  if (resume === undefined && holdsRun(directory))
    throw new InputError(
      `${directory} already holds a run; resume ${directory} to continue it, or choose another directory`,
    );
}

function resumed(path: string, source: RunSource): OpenedRun {
  const { config: given, sets = [], directory: wanted, allowChange = false } = source;
  if (given !== undefined || wanted !== undefined)
    throw new InputError(
      "resume takes the config and directory of the run; leave out both (single keys may be set)",
    );
  const isCheckpoint = exists(join(path, "trainer_state.json"));
  const directory = isCheckpoint ? dirname(dirname(path)) : path;
  const record = readRunRecord(directory);
  // Resolved before anything is set: what followed from the old values stays what was promised.
  const before = { ...record, config: resolveRun(record.config, join(directory, "run.json")) };
  const config = readRunConfig(undefined, sets, before.config);
  const changes = changesBetween(before.config, config);
  refuseAnotherRun(directory, changes, allowChange);
  const checkpoint = isCheckpoint ? path : undefined;
  return { config, directory, resume: { before, changes, allowChange, checkpoint } };
}

/** @throws InputError naming what makes it another run, unless that is allowed */
export function refuseAnotherRun(directory: string, changes: readonly Change[], allowChange: boolean): void {
  const another = changes.filter((change) => effectOf(change) === "run");
  if (another.length > 0 && !allowChange)
    throw new InputError(
      `${directory} would go on as another run: ${another.map(changeText).join(", ")}; leave it as it was, allow the change by name (--allow-change), or start a new run`,
    );
}
