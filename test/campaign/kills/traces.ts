/** What a run that was killed left on the disk, and what a complete run must hold. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Of the runs of this campaign. */
export const STEPS = 24;
export const SAVE_INTERVAL = 3;
export const KEPT = 2;

export function checkpointName(step: number): string {
  return `step-${String(step).padStart(8, "0")}`;
}

/** Steps of whole checkpoints, the newest last. */
export function savedSteps(run: string): number[] {
  return stepsNamed(run, /^step-(\d+)$/);
}

function stepsNamed(run: string, pattern: RegExp): number[] {
  return entries(join(run, "checkpoints"))
    .map((name) => pattern.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

export function entries(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).sort() : [];
}

/** Rows of the metrics that are whole. */
export function numRows(run: string): number {
  return textOf(join(run, "metrics.jsonl")).split("\n").length - 1;
}

/** Who holds, or held, the directory. */
export function lockToken(run: string): string | undefined {
  try {
    return (JSON.parse(textOf(join(run, "lock.json"))) as { token: string }).token;
  } catch {
    return undefined;
  }
}

/** How far a run has come, as its directory says. */
export interface Progress {
  readonly rows: number;
  /** Steps of its checkpoints. */
  readonly saved: readonly number[];
  /** Of those half written, or half removed. */
  readonly unfinished: readonly number[];
}

export function progressOfRun(run: string): Progress {
  return { rows: numRows(run), saved: savedSteps(run), unfinished: stepsNamed(run, /^step-(\d+)\.tmp$/) };
}

/** Where a process was when it was killed, by what it left. @param before when it began */
export function phaseOf(run: string, cache: string, before: Progress): string {
  const { rows, saved, unfinished } = progressOfRun(run);
  const newest = saved.at(-1) ?? 0;
  const old = before.saved.at(-1) ?? 0;
  const isWhereItWas = rows === before.rows && String(unfinished) === String(before.unfinished);
  if (newest === old && (isWhereItWas || (rows <= old && unfinished.length === 0))) {
    const isPreparing = !existsSync(join(cache, "facts.json")) && existsSync(join(cache, ".."));
    if (isPreparing && entries(join(cache, "..")).length > 0) return "while data were prepared";
    return old > 0 ? "while it resumed" : "in start-up";
  }
  if (unfinished.length > 0)
    return unfinished[0] > newest ? "while a checkpoint was written" : "during rotation";
  if (newest > 0 && textOf(join(run, "checkpoints/latest")) !== `${checkpointName(newest)}\n`)
    return "before latest named the new checkpoint";
  if (saved.length > KEPT) return "before rotation";
  if (newest === STEPS) return "after the last checkpoint";
  if (rows === STEPS) return "after the last step";
  return rows === newest ? "right after a checkpoint" : "among steps";
}

/** Everything of a complete run that must not depend on whether it was disturbed, by name. */
export function resultsOf(run: string): ReadonlyMap<string, string> {
  const results = new Map<string, string>();
  const rows = textOf(join(run, "metrics.jsonl")).split("\n").slice(0, -1);
  rows.forEach((line, i) => {
    const { step, loss, lm_loss, grad_norm, validation_loss, layers } = JSON.parse(line) as Row;
    const tokens = layers.map(({ layer, tokens_per_expert }) => [layer, tokens_per_expert]);
    results.set(
      `row ${i + 1} of metrics.jsonl`,
      JSON.stringify([step, loss, lm_loss, grad_norm, validation_loss ?? null, tokens]),
    );
  });
  for (const step of savedSteps(run)) {
    const directory = join(run, "checkpoints", checkpointName(step));
    for (const name of entries(directory))
      results.set(`${checkpointName(step)}/${name}`, digest(join(directory, name)));
  }
  results.set("checkpoints", entries(join(run, "checkpoints")).join(" "));
  results.set("latest", textOf(join(run, "checkpoints/latest")));
  return results;
}

/** Of the files of a directory. */
export function digests(directory: string): string {
  return entries(directory)
    .map((name) => `${name} ${digest(join(directory, name))}`)
    .join("\n");
}

function digest(file: string): string {
  return createHash("sha256").update(readFileSync(file)).digest("hex");
}

/** What a run's directory holds that is of no use to it. */
export function leftovers(run: string): string[] {
  return entries(run).filter((name) => name.endsWith(".tmp") || name.startsWith("lock.json"));
}

interface Row {
  readonly step: number;
  readonly loss: number;
  readonly lm_loss: number;
  readonly grad_norm: number;
  readonly validation_loss?: number;
  readonly layers: readonly { readonly layer: string; readonly tokens_per_expert: readonly number[] }[];
}

function textOf(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}
