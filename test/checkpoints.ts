/** Checkpoints for tests, of a few small tensors. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { InputError } from "../src/core/errors.js";
import { CheckpointReader } from "../src/storage/checkpoint-reader.js";
import { beginCheckpoint, commitCheckpoint, writeShard } from "../src/storage/checkpoint-writer.js";
import type { TensorToStore } from "../src/storage/safetensors.js";

export const newRun = (): string => mkdtempSync(join(tmpdir(), "scmoe-checkpoints-"));
export const tensor = (name: string, dims: number[], first: number): TensorToStore => ({
  name,
  dtype: "F32",
  dims,
  data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => first + i / 8),
});

/** A checkpoint as two ranks write it, or another number. */
export function writeCheckpoint(
  run: string,
  step: number,
  options: { keep?: number; ranks?: number } = {},
): string {
  const { ranks = 2 } = options;
  const directory = join(run, "checkpoints", `step-${String(step).padStart(8, "0")}`);
  beginCheckpoint(directory);
  const shards = Array.from({ length: ranks }, (_, rank) => rank).flatMap((rank) =>
    (["model", "optimizer"] as const).map((kind) =>
      writeShard(directory, {
        kind,
        rank,
        ranks,
        tensors: [tensor(`${kind}.${rank}`, [2, 3], step + rank), tensor(`${kind}.${rank}.b`, [5], step)],
      }),
    ),
  );
  commitCheckpoint(
    directory,
    shards,
    {
      config: { hidden_size: 3 },
      trainerState: { step },
      tokenizer: new Map([["tokenizer.json", '{"model":{}}']]),
    },
    { keep: options.keep ?? 9 },
  );
  return directory;
}

/** The one line with which a folder is refused when it is opened. */
export function refusal(folder: string): string {
  try {
    new CheckpointReader(folder).close();
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).not.toContain("\n");
    return (error as Error).message;
  }
  return "nothing was refused";
}
