/** The directory of a run, and `run.json`: what the run is. */
import { basename, dirname, join, resolve } from "node:path";
import { parseJson } from "../core/json.js";
import { EnvironmentError, InputError } from "../core/errors.js";
import { VERSION } from "../core/version.js";
import { newestCheckpoint, whatIsSaved } from "../storage/checkpoint-names.js";
import { removeUnfinished } from "../storage/checkpoint-writer.js";
import { exists, listDirectory, makeDirectory, readText, remove, replaceFile } from "../storage/files.js";
import type { Change } from "./changes.js";
import type { RunConfig } from "./config.js";

/** The content of `run.json`. */
export interface RunRecord {
  readonly scmoe: string;
  readonly node: string;
  readonly ranks: number;
  readonly started: string;
  readonly config: RunConfig;
  /** The run, checkpoint or published folder whose weights it started with. */
  readonly from?: string | undefined;
  /** SHA-256 of the corpus' text; missing in runs of earlier versions. */
  readonly text?: string;
  /** Digest of the weights of `train.distill.teacher`. */
  readonly teacher?: string | undefined;
  /** What was changed on resuming, and after which step. */
  readonly changes?: readonly RecordedChange[];
}

export interface RecordedChange extends Change {
  readonly step: number;
  readonly at: string;
}

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
    throw new EnvironmentError(`${error.message}${savedIn(directory)}`);
  }
}

function savedIn(directory: string): string {
  try {
    return `; ${whatIsSaved(join(directory, "checkpoints"))}`;
  } catch {
    // A disk that cannot be read any more either.
    return "";
  }
}

/** Makes the directory and `run.json`: the resolved config, and what it runs on. @throws EnvironmentError */
export function startRun(
  directory: string,
  facts: Pick<RunRecord, "ranks" | "config" | "text" | "from" | "teacher">,
): void {
  makeDirectory(join(directory, "checkpoints"));
  removeAttempt(directory);
  const { ranks, config, text, from, teacher } = facts;
  const started = new Date().toISOString();
  writeRecord(directory, {
    scmoe: VERSION,
    node: process.version,
    ranks,
    started,
    from,
    text,
    teacher,
    config,
  });
}

/** Records what a resumed run has become, before its first step; one that goes on as it was keeps its record. @throws EnvironmentError */
export function recordResume(
  directory: string,
  before: RunRecord,
  now: Pick<RunRecord, "ranks" | "config" | "text" | "teacher"> & {
    readonly step: number;
    readonly changes: readonly Change[];
  },
): void {
  const { ranks, config, text, teacher, step } = now;
  if (now.changes.length === 0 && before.text === text) return;
  const at = new Date().toISOString();
  const changes = [...(before.changes ?? []), ...now.changes.map((change) => ({ step, at, ...change }))];
  writeRecord(directory, { ...before, ranks, text, teacher, config, changes });
}

function writeRecord(directory: string, record: RunRecord): void {
  replaceFile(join(directory, "run.json"), `${JSON.stringify(record, undefined, 2)}\n`);
}

/** @throws InputError when there is no run, or its record is damaged */
export function readRunRecord(directory: string): RunRecord {
  const file = join(directory, "run.json");
  if (!exists(file)) throw new InputError(`${directory} holds no run: ${file} is missing`);
  const stored = parseJson(readText(file, "the run"), file) as Partial<RunRecord> | null;
  const wanted = (key: string, isFit: boolean): void => {
    if (!isFit) throw new InputError(`${file} is damaged: it has no ${key}`);
  };
  wanted("config", isObject(stored?.config));
  wanted("number of ranks", Number.isInteger(stored?.ranks) && Number(stored?.ranks) >= 1);
  wanted("list of changes", stored?.changes === undefined || Array.isArray(stored.changes));
  return stored as RunRecord;
}

/** How the run that a checkpoint lies in was trained, and on what. Runs of earlier versions did not know every key. */
export interface Training {
  readonly data: Partial<RunConfig["data"]>;
  readonly train: Partial<RunConfig["train"]>;
}

/**
 * From the `run.json` around a checkpoint; nothing where none is around it.
 * @throws InputError when it is damaged
 */
export function trainingOf(checkpoint: string): Training {
  const { data = {}, train = {} } = (runAround(checkpoint)?.config ?? {}) as Partial<Training>;
  return { data, train };
}

/**
 * Whether the run that a checkpoint lies in was trained with `data.document_mask`; false where none is around it.
 * @throws InputError when its `run.json` is damaged
 */
export function wasDocumentMasked(checkpoint: string): boolean {
  return trainingOf(checkpoint).data.document_mask ?? false;
}

/**
 * The published folder that the run around a checkpoint started from, where it still is.
 * @throws InputError when its `run.json` is damaged
 */
export function publishedStart(checkpoint: string): string | undefined {
  const { from } = runAround(checkpoint) ?? {};
  const isFolder = from !== undefined && exists(join(from, "config.json"));
  return isFolder && !exists(join(from, "trainer_state.json")) ? from : undefined;
}

/** The record of the run that a checkpoint lies in. */
function runAround(checkpoint: string): RunRecord | undefined {
  const parent = dirname(resolve(checkpoint));
  const directory = dirname(parent);
  if (basename(parent) !== "checkpoints" || !exists(join(directory, "run.json"))) return undefined;
  return readRunRecord(directory);
}

/** Removes what a crash left half-written: it has a temporary name. @throws EnvironmentError */
export function removeHalfWritten(directory: string): void {
  for (const name of listDirectory(directory)) if (name.endsWith(".tmp")) remove(join(directory, name));
  removeUnfinished(join(directory, "checkpoints"));
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An attempt that ended before its first checkpoint left rows that would be mixed with the new run's. */
function removeAttempt(directory: string): void {
  removeHalfWritten(directory);
  for (const name of listDirectory(directory))
    if (name === "metrics.jsonl" || name.startsWith("events.out.tfevents.")) remove(join(directory, name));
}
