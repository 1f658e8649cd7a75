import { join } from "node:path";
import { checkBounds, BOUNDS } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import { type TextTokens, jsonBytes, tokenFiles } from "../data/tokenizer-files.js";
import type { LineEvent } from "../launch/job.js";
import { type PublishedForm, type PublishedTensor, publishedForm } from "../model/families/published-form.js";
import { checkTensors } from "../run/load-weights.js";
import { type OpenModel, openModel } from "../run/open-model.js";
import { exists, readText } from "../storage/files.js";
import { type FolderTensor, refuseToOverwrite, writeModelFolder } from "../storage/model-folder.js";

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
  const { out, dtype = "f32", shardGb = 5, signal, onEvent } = options;
  checkBounds("exportModel", options, { shardGb: BOUNDS.shardGb });
  if (!Object.hasOwn(DTYPES, dtype))
    throw new InputError(`exportModel: dtype is ${shown(dtype)}, wanted f32 or bf16`);
  refuseToOverwrite(out);
  const model = openModel(checkpointOf(options));
  try {
    model.verify();
    checkTensors(model.config, model.source, "refused");
    const form = publishedForm(model.config, model.directory);
    const { files, tokens } = tokenFiles(
      model.directory,
      model.config.max_position_embeddings,
      knownTokens(model),
    );
    const config = { ...form.config, dtype: DTYPES[dtype].said, ...tokens };
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

/** What is known of the tokens around a text beside the tokenizer: in config.json of a published folder, in ours. */
function knownTokens({ directory, family, config }: OpenModel): Partial<TextTokens> {
  const { end_tokens: ends, padding_token: pad_token_id } = config;
  if (family === undefined)
    return {
      pad_token_id,
      ...(ends === undefined ? {} : { eos_token_id: ends.length === 1 ? ends[0] : ends }),
    };
  const said = JSON.parse(readText(join(directory, "config.json"), "the config")) as Partial<TextTokens>;
  const keys = (["bos_token_id", "eos_token_id"] as const).filter((key) => Object.hasOwn(said, key));
  return { pad_token_id, ...Object.fromEntries(keys.map((key) => [key, said[key]])) };
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
