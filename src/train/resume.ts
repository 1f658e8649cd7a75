/** Going on with a run: its newest checkpoint or an earlier one, on any number of ranks. */
import { join, resolve } from "node:path";
import { InputError } from "../core/errors.js";
import type { PreparedData } from "../data/prepare.js";
import type { JobContext } from "../launch/job.js";
import { modelToJson } from "../model/config.js";
import { checkpointConfig } from "../run/load-weights.js";
import { findCheckpoint } from "../storage/checkpoint-names.js";
import { CheckpointReader } from "../storage/checkpoint-reader.js";
import { rotate, setAsideLater } from "../storage/checkpoint-writer.js";
import { type Change, TEACHER, changeText, effectOf, effectText } from "./changes.js";
import { type TrainerState, loadCheckpoint } from "./checkpoint.js";
import type { RunConfig } from "./config.js";
import { loadStart } from "./from.js";
import { type OpenedRun, type ResumedRun, refuseAnotherRun } from "./open-run.js";
import { recordResume, removeHalfWritten, startRun } from "./run-directory.js";
import type { Trainee } from "./trainee.js";

/** How far a run has come. */
export interface Progressed {
  /** Optimiser steps done, and those of them that were not applied. */
  readonly step: number;
  readonly skipped: number;
  /** Sequences of the training text that they took. */
  readonly position: number;
}

/** Initial weights, or those of the model that the run starts from, and `run.json`; rank 0 writes. */
export function start(rank: Trainee, { config, directory, from }: OpenedRun, data: PreparedData): Progressed {
  if (from === undefined) rank.weights.initialize(config.train.seed, rank.config.initializer_range);
  else loadStart(rank, from);
  const { text } = data;
  const facts = { config, text, from: from && resolve(from), teacher: rank.teacher?.digest };
  if (rank.world.rank === 0) startRun(directory, { ranks: rank.world.size, ...facts });
  return { step: 0, skipped: 0, position: 0 };
}

/** The checkpoint that a resumed run starts from. @throws InputError when there is none, or it is damaged */
export function openCheckpoint(directory: string, { checkpoint }: ResumedRun): CheckpointReader {
  return new CheckpointReader(checkpoint ?? findCheckpoint(directory));
}

/**
 * Loads weights and moments; then, on rank 0, sets later checkpoints aside and records what has changed.
 * @throws InputError when the checkpoint is damaged or does not fit, or a change is not allowed
 */
export function resume(
  { world, say }: JobContext<never>,
  rank: Trainee,
  run: { readonly opened: OpenedRun; readonly resumed: ResumedRun; readonly data: PreparedData },
): Progressed {
  const { opened, resumed, data } = run;
  const { config, directory } = opened;
  const changes = changesOf(rank, opened, { resumed, data });
  refuseAnotherRun(directory, changes, resumed.allowChange);
  const reader = openCheckpoint(directory, resumed);
  reader.verify({ turn: world.rank, of: world.size });
  refuseAnotherModel(reader, rank, changes);
  loadCheckpoint(rank, reader);
  const progressed = progressOf(reader, resumed.before.config, config);
  reader.close();
  if (world.rank === 0) {
    const checkpoints = join(directory, "checkpoints");
    removeHalfWritten(directory);
    for (const path of setAsideLater(checkpoints, progressed.step))
      say(`Set aside as ${path}: it is later than the checkpoint gone back to`);
    // Killed between a checkpoint and the removal of the oldest, a run may never write another.
    rotate(checkpoints, config.train.keep_checkpoints);
    const { text } = data;
    const teacher = rank.teacher?.digest;
    const now = { ranks: world.size, config, text, teacher, step: progressed.step, changes };
    recordResume(directory, resumed.before, now);
  }
  say(`Resuming ${directory} after step ${progressed.step}`);
  for (const line of changeLines(changes, config)) say(line);
  return progressed;
}

/** The keys that were set, and what was found out since: the number of ranks, the text itself. */
function changesOf(
  { world, teacher }: Trainee,
  { config }: OpenedRun,
  { resumed, data }: { readonly resumed: ResumedRun; readonly data: PreparedData },
): Change[] {
  const { before, changes } = resumed;
  const found = [...changes];
  if (before.ranks !== world.size) found.push({ key: "ranks", from: before.ranks, to: world.size });
  const isSame = before.text === undefined || before.text === data.text;
  if (!isSame && !changes.some(({ key }) => key.startsWith("data.")))
    found.push({
      key: `text of ${config.data.corpus}`,
      from: before.text?.slice(0, 8),
      to: data.text.slice(0, 8),
    });
  if (before.teacher !== teacher?.digest)
    found.push({ key: TEACHER, from: before.teacher?.slice(0, 8), to: teacher?.digest.slice(0, 8) });
  return found;
}

function refuseAnotherModel(reader: CheckpointReader, rank: Trainee, changes: readonly Change[]): void {
  const stored = modelToJson(checkpointConfig(reader));
  const wanted = modelToJson(rank.config);
  const isAllowed = (key: string): boolean => changes.some((change) => change.key === `model.${key}`);
  // Some are lists or have keys of their own.
  const text = (value: unknown): string =>
    typeof value === "string" ? value : (JSON.stringify(value) ?? "nothing");
  const differs = (key: string): boolean => text(stored[key]) !== text(wanted[key]);
  const other = Object.keys(wanted).find((key) => differs(key) && !isAllowed(key));
  if (other !== undefined)
    throw new InputError(
      `${reader.directory}: its config.json says ${other} ${text(stored[other])}, the run ${text(wanted[other])}`,
    );
}

function progressOf(reader: CheckpointReader, before: RunConfig, now: RunConfig): Progressed {
  const state = reader.json<TrainerState>("trainer_state.json");
  const { step, skipped = 0, sequence_length = before.data.sequence_length } = state;
  const { sequences = step * before.train.batch_size } = state;
  for (const [key, value] of Object.entries({ step, skipped, sequences, sequence_length }))
    if (!Number.isSafeInteger(value) || value < 0)
      throw new InputError(`${reader.directory}/trainer_state.json: ${key} is ${value}, wanted a count`);
  // Sequences of another length: as many tokens have been taken.
  const position = Math.floor((sequences * sequence_length) / now.data.sequence_length);
  return { step, skipped, position };
}

function changeLines(changes: readonly Change[], config: RunConfig): string[] {
  const lines = (["none", "rounding", "from-here", "run"] as const).flatMap((effect) => {
    const ofEffect = changes.filter((change) => effectOf(change) === effect);
    return ofEffect.length === 0
      ? []
      : [`Changed: ${ofEffect.map(changeText).join(", ")}: ${effectText(effect, config)}`];
  });
  const { steps, decay_steps, min_learning_rate } = config.train;
  if (steps > decay_steps && changes.some(({ key }) => key === "train.steps"))
    lines.push(
      `The learning rate keeps the course of ${decay_steps} steps and stays at ${min_learning_rate} after them; train.decay_steps=${steps} stretches it`,
    );
  return lines;
}
