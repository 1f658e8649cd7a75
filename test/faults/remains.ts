/** What is left in a directory, and how it differs from what should be. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { listCheckpoints, stepOf } from "../../src/storage/checkpoint-names.js";
import { CheckpointReader } from "../../src/storage/checkpoint-reader.js";

/** Which checkpoints should be there and are not, or are not whole. @param least steps that were saved before @param keep that rotation leaves */
export function lost(run: string, least: number, keep: number): string[] {
  const parent = join(run, "checkpoints");
  const steps = listCheckpoints(parent).map((name) => stepOf(name) ?? 0);
  const newest = steps.at(-1) ?? 0;
  const found = newest < least ? [`step ${least} was saved, the newest is ${newest}`] : [];
  for (let step = Math.max(1, newest - keep + 1); step <= newest; step++)
    if (!steps.includes(step))
      found.push(`the checkpoint of step ${step} is gone; there are ${steps.join()}`);
  for (const name of listCheckpoints(parent))
    try {
      const reader = new CheckpointReader(join(parent, name), false);
      reader.verify();
      reader.close();
    } catch (error) {
      found.push((error as Error).message);
    }
  return found;
}

/** Files of a directory and what is in them, without what is different every time. */
export function filesOf(directory: string, below = ""): Map<string, string> {
  const files = new Map<string, string>();
  if (!existsSync(directory)) return files;
  for (const name of readdirSync(directory).sort()) {
    const path = join(directory, name);
    const key = join(below, name).replace(/\.tmp-\w+/, ".tmp-*");
    if (name.startsWith("events.out.tfevents.")) continue;
    if (statSync(path).isDirectory()) {
      files.set(`${key}/`, "");
      for (const [inner, content] of filesOf(path, key)) files.set(inner, content);
    } else files.set(key, steady(name, readFileSync(path)));
  }
  return files;
}

function steady(name: string, bytes: Buffer): string {
  if (/^(run|facts)\.json/.test(name))
    return String(bytes).replace(/"(started|corpus|cache)": ?"[^"]*"/g, "");
  if (!name.startsWith("metrics.jsonl") && !name.startsWith("timeline."))
    return createHash("sha256").update(bytes).digest("hex");
  if (name.startsWith("timeline.")) return "";
  return String(bytes)
    .split("\n")
    .map((line) => {
      try {
        const { step, loss, lm_loss, validation_loss } = JSON.parse(line) as Record<string, number>;
        return JSON.stringify({ step, loss, lm_loss, validation_loss });
      } catch {
        return line === "" ? "" : "cut off";
      }
    })
    .join("\n");
}

export function contentOf(directory: string, ranks: number): string {
  return JSON.stringify([ranks, ...filesOf(directory)]);
}

export function differences(
  wanted: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, string>,
): string[] {
  const all = new Set([...wanted.keys(), ...found.keys()]);
  return (
    [...all]
      .filter((file) => wanted.get(file) !== found.get(file))
      // What a killed process leaves in the cache is removed by the next that prepares; what could not be rotated away stays.
      .filter((file) => !file.includes(".tmp-*") && (wanted.has(file) || !/step-\d+\//.test(file)))
      .map((file) => {
        if (!found.has(file)) return `${file} is missing in the end`;
        return `${file} is ${wanted.has(file) ? "different" : "left over"} in the end`;
      })
  );
}
