import { join } from "node:path";
import { checkBounds, BOUNDS } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import { shown } from "../core/shown.js";
import { type TextTokens, jsonBytes, tokenFiles } from "../data/tokenizer-files.js";
import type { LineEvent } from "../launch/job.js";
import { type PublishedForm, type PublishedTensor, publishedForm } from "../model/families/published-form.js";
import { checkTensors } from "../run/weight-checks.js";
import { type OpenModel, openModel } from "../run/open-model.js";
import { exists, readText } from "../storage/files.js";
import { type FolderTensor, SHARD_GB, refuseToOverwrite, writeModelFolder } from "../storage/model-folder.js";
import { publishedStart } from "../train/run-directory.js";

/** What to export, and in which form. */
export interface ExportOptions {
  /** A run directory (its newest checkpoint), a checkpoint, or a published folder. */
  readonly model: string;
  /** The folder to write: new or empty. */
  readonly out: string;
  /** Of a run, the checkpoint after this step, or of this name or path; default the newest. */
  readonly checkpoint?: number | string | undefined;
  /** Of matrices; selection biases stay f32. Default f32. */
  readonly dtype?: "f32" | "bf16" | undefined;
  /** GB (10⁹ bytes) of a file, at most, unless a single tensor is larger; default 5. */
  readonly shardGb?: number | undefined;
  /** Stops; nothing is left then. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: LineEvent) => void) | undefined;
}

/** What was written. */
export interface ExportResult {
  readonly directory: string;
  /** Where the weights are from. */
  readonly from: string;
  /** The class of transformers that loads it; null where it has none. */
  readonly architecture: string | null;
  readonly dtype: "f32" | "bf16";
  readonly files: number;
  /** Of all tensors. */
  readonly bytes: number;
}

const DTYPES = {
  f32: { stored: "F32", said: "float32" },
  bf16: { stored: "BF16", said: "bfloat16" },
} as const;

/**
 * Writes a model as models are published: safetensors in shards with an index, config, tokenizer, generation settings. The family
 * whose class can hold the model is found from its parts; where there is none, names and config stay ours.
 * @throws InputError when there is no such model, its family cannot express a key of it, or the folder is not empty;
 *   EnvironmentError when it cannot be written; InterruptedError. Then nothing is left under the folder's name
 */
export async function exportModel(options: ExportOptions): Promise<ExportResult> {
  const { out, dtype = "f32", shardGb = SHARD_GB, signal, onEvent } = options;
  checkBounds("exportModel", options, { shardGb: BOUNDS.shardGb });
  if (!Object.hasOwn(DTYPES, dtype))
    throw new InputError(`exportModel: dtype is ${shown(dtype)}, wanted f32 or bf16`);
  refuseToOverwrite(out);
  const model = openModel(checkpointOf(options));
  try {
    model.verify();
    checkTensors(model.config, model.source, "refused");
    const form = publishedForm(model.config, model.directory);
    const published = model.family === undefined ? publishedStart(model.directory) : model.directory;
    const known = knownTokens(model, published);
    const directories = [model.directory, ...(published === undefined ? [] : [published])];
    const { files, tokens } = tokenFiles(directories, model.config.max_position_embeddings, known);
    // What a published folder leaves out has its family's default; a model born here has none.
    const said = published === undefined ? tokens : known;
    const config = { ...form.config, dtype: DTYPES[dtype].said, ...said };
    const written = await writeModelFolder(out, {
      tensors: form.tensors.map((tensor) => folderTensor(tensor, model, dtype)),
      files: new Map([
        ["config.json", jsonBytes(form.family === undefined ? form.config : config)],
        ...files,
      ]),
      shardBytes: shardGb * 1e9,
      signal,
      // Where it takes a while.
      onProgress: (bytes, of) => {
        const line = `exported ${(bytes / 1e9).toFixed(1)} of ${(of / 1e9).toFixed(1)} GB`;
        if (of > 1e9) onEvent?.({ kind: "progress", line });
      },
    });
    const remark = remarkOn(form);
    if (remark !== undefined) onEvent?.({ kind: "message", line: remark });
    return {
      directory: out,
      from: model.directory,
      architecture: form.family?.architectures[0] ?? null,
      dtype,
      files: written.shards,
      bytes: written.bytes,
    };
  } finally {
    model.close();
  }
}

function remarkOn({ family, reason }: PublishedForm): string | undefined {
  if (family === undefined)
    return `transformers has no class for this model (${reason}): names and config.json are scmoe's own`;
  if (family.hasOwnType === false)
    return `transformers has no class for ${family.title} and would read it as ${family.modelType}, which is another model`;
  return undefined;
}

/** @throws InputError when the run has no such checkpoint */
function checkpointOf({ model, checkpoint }: ExportOptions): string {
  if (checkpoint === undefined) return model;
  const isStep = /^\d+$/.test(String(checkpoint));
  const name = isStep ? `step-${String(checkpoint).padStart(8, "0")}` : String(checkpoint);
  const path = join(model, "checkpoints", name);
  if (exists(path)) return path;
  if (!isStep && exists(name)) return name;
  throw new InputError(`${model} has no checkpoint ${shown(checkpoint)}: ${path} is missing`);
}

/** @param published the folder that the model is, or that its training started from */
function knownTokens({ config }: OpenModel, published: string | undefined): Partial<TextTokens> {
  const { end_tokens: ends, padding_token: pad_token_id } = config;
  const ours = ends === undefined ? {} : { eos_token_id: ends.length === 1 ? ends[0] : ends };
  if (published === undefined) return { ...ours, pad_token_id };
  const file = join(published, "config.json");
  const said = (parseJson(readText(file, "the config"), file) ?? {}) as Partial<TextTokens>;
  const keys = (["bos_token_id", "eos_token_id"] as const).filter((key) => Object.hasOwn(said, key));
  return { ...ours, ...Object.fromEntries(keys.map((key) => [key, said[key]])), pad_token_id };
}

function folderTensor(tensor: PublishedTensor, { source }: OpenModel, dtype: "f32" | "bf16"): FolderTensor {
  const { name, dims, from: ours, isAlwaysF32 } = tensor;
  return {
    name,
    dims,
    dtype: isAlwaysF32 ? "F32" : DTYPES[dtype].stored,
    readInto: (out, from) => (ours === undefined ? void out.fill(0) : source.readInto(ours, out, from)),
  };
}
