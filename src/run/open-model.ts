/** A model wherever it lies: a run, a checkpoint, or a folder as models are published. */
import { join } from "node:path";
import { InputError } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import type { ModelConfig } from "../model/config.js";
import { type Family, readConfig } from "../model/families/index.js";
import { findCheckpoint } from "../storage/checkpoint-names.js";
import { CheckpointReader } from "../storage/checkpoint-reader.js";
import { exists, readText } from "../storage/files.js";
import { PublishedFiles } from "../storage/published-files.js";
import { type WeightSource, checkpointWeights } from "../storage/weight-source.js";
import { checkpointConfig } from "./load-weights.js";
import { endTokens, publishedWeights, scaleBlocks, tiesHead } from "./published-weights.js";

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
  readonly verify: (share?: { readonly turn: number; readonly of: number }) => void;
  readonly close: () => void;
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
  const file = join(directory, "config.json");
  // A checkpoint may be damaged as a whole: its reader says so, and names an earlier one.
  if (exists(file) && !exists(join(directory, "trainer_state.json"))) {
    const json = readObject(file);
    if (!isOurs(json)) return { ...shared, ...openPublished(directory, json) };
  }
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

/** Whether a config.json is in our words. Where nothing tells, it is published: its reader says what is missing. */
function isOurs(json: Json): boolean {
  const { model_type: type, architectures } = json;
  return (
    architectures === undefined && (type === "scmoe" || (type === undefined && Object.hasOwn(json, "arch")))
  );
}

type Json = Readonly<Record<string, unknown>>;

/** @throws InputError when it is no JSON object */
function readObject(file: string): Json {
  const json = parseJson(readText(file, "the model"), file);
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new InputError(`${file} is not a JSON object`);
  return json as Json;
}

function openPublished(
  directory: string,
  json: Json,
): Pick<OpenModel, "config" | "source" | "family" | "verify" | "close"> {
  const where = join(directory, "config.json");
  const { family, config: said } = readConfig(json, where);
  const blocks = scaleBlocks(json, where);
  const generation = join(directory, "generation_config.json");
  const end_tokens = endTokens(json, exists(generation) ? readObject(generation) : undefined, directory);
  const files = new PublishedFiles(directory);
  try {
    refuseBetrayed(files, family);
    const tie_word_embeddings = tiesHead(files, said.tie_word_embeddings);
    const config = { ...said, end_tokens, tie_word_embeddings };
    return {
      config,
      source: publishedWeights(files, config, { family, blocks }),
      family: family.name,
      // Nobody has written down what the files were.
      verify: () => undefined,
      close: () => files.close(),
    };
  } catch (error) {
    files.close();
    throw error;
  }
}

/** Some models say that they are of another family, whose reader would take them without a word. */
function refuseBetrayed(files: PublishedFiles, { betrayal, architectures }: Family): void {
  if (betrayal === undefined || files.find(betrayal.tensor) === undefined) return;
  throw new InputError(
    `${files.directory} has a tensor "${betrayal.tensor}", which ${architectures[0]} has not; wanted architectures ["${betrayal.family}"] in config.json if it is one`,
  );
}
