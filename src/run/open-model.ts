/** A model wherever it lies: a run, a checkpoint, or a folder as models are published. */
import { join } from "node:path";
import { type ModelConfig } from "../model/config.js";
import { findCheckpoint } from "../storage/checkpoint-names.js";
import { CheckpointReader } from "../storage/checkpoint-reader.js";
import { exists } from "../storage/files.js";
import { type WeightSource, checkpointWeights } from "../storage/weight-source.js";
import { checkpointConfig } from "./load-weights.js";

export interface OpenModel {
  /** Where the files are: of a run, its newest checkpoint. */
  readonly directory: string;
  readonly config: ModelConfig;
  readonly source: WeightSource;
  /** Its tokenizer.json, where there is one. */
  readonly tokenizer?: string | undefined;
  /** The published family whose folder it is; none for a run or checkpoint. */
  readonly family?: string | undefined;
  /**
   * Compares every file with what was written, as far as that is known. Ranks share the work.
   * @throws InputError naming the damaged file
   */
  verify(share?: { turn: number; of: number }): void;
  close(): void;
}

/**
 * Opens what a command was given as a model; weights are read only when they are asked for.
 * @param path a run directory (its newest checkpoint), a checkpoint, or a published folder
 * @throws InputError when nothing is there, or it is damaged or not supported
 */
export function openModel(path: string): OpenModel {
  const directory = findCheckpoint(path);
  const tokenizer = join(directory, "tokenizer.json");
  const shared = { directory, tokenizer: exists(tokenizer) ? tokenizer : undefined };
  const reader = new CheckpointReader(directory);
  try {
    return {
      ...shared,
      config: checkpointConfig(reader),
      source: checkpointWeights(reader),
      verify: (share) => reader.verify(share),
      close: () => reader.close(),
    };
  } catch (error) {
    reader.close();
    throw error;
  }
}
