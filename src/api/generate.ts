/** Texts in one go: a model is opened, writes, and is closed. */
import { InputError } from "../core/errors.js";
import { ENGINE } from "../infer/open-engine.js";
import type { Live, Written } from "../infer/generate.js";
import { type BatchRequest, generateBatch as writeBatch } from "../infer/generate-batch.js";
import { type WritingOptions, tokensAtMost, writingOptions } from "../infer/writing-options.js";
import type { GeneratorOptions } from "./engine-options.js";
import { openGenerator } from "./open-generator.js";

/** A model, a prompt, and how to sample. */
export interface GenerateOptions
  extends Partial<WritingOptions>, Omit<GeneratorOptions, "slots" | "contextLength">, Live {
  /** Text to go on from. Default: empty, a new document. */
  readonly prompt?: string | undefined;
  /** Token ids instead of a prompt's text: a published folder without a tokenizer.json knows nothing else. */
  readonly ids?: readonly number[] | undefined;
}

/**
 * Writes text with a trained model. A text that outgrows the model's context goes on with its latest half. Processes of an MPI launcher
 * other than rank 0's are given an empty one.
 * @throws InputError when the model is missing, damaged or not supported, or has no tokenizer for a text, or there is too little memory
 */
export async function generate(options: GenerateOptions): Promise<Written> {
  const { prompt: text = "", ids, onText, onToken, signal } = options;
  if (ids !== undefined && text !== "")
    throw new InputError("generate takes a prompt or token ids; found both");
  const [prompt, writing] = [ids ?? text, writingOptions("generate", options)];
  const generator = await openGenerator({
    ...options,
    slots: 1,
    contextLength: tokensAtMost([{ prompt, ...writing }]),
  });
  if (generator === undefined) return { text: "", ids: [], newTokens: 0, stopped: "length" };
  try {
    return await generator.generate(prompt, writing, { onText, onToken, signal });
  } finally {
    await generator.close();
  }
}

/** A model, and what it is to write. */
export interface GenerateBatchOptions extends GeneratorOptions, Pick<Live, "signal"> {
  readonly requests: readonly BatchRequest[];
  /** Hears of each text, in the order of the requests, once it and all before it are written. */
  readonly onWritten?: ((written: Written, index: number) => void) | undefined;
}

/**
 * Writes many texts together; each is what it would be alone. Processes of an MPI launcher other than rank 0's are given none.
 * @throws InputError as `generate`, and naming the first request that is refused, before anything is written
 */
export async function generateBatch(options: GenerateBatchOptions): Promise<readonly Written[]> {
  const { requests, signal, onWritten } = options;
  for (const [index, { where = `request ${index}`, ...request }] of requests.entries())
    writingOptions(where, request);
  const generator = await openGenerator({ ...options, ...batchShape(options) });
  if (generator === undefined) return [];
  try {
    return await writeBatch(generator, requests, { signal, onWritten });
  } finally {
    await generator.close();
  }
}

/** No more slots than there are requests for them, nor a longer context than the longest of them takes. */
export function batchShape(
  of: Pick<GenerateBatchOptions, "requests" | "slots" | "ranks" | "contextLength">,
): { readonly slots: number; readonly contextLength: number } {
  const { requests, ranks = 1, slots = ENGINE.slots, contextLength = tokensAtMost(requests) } = of;
  return { slots: Math.min(slots, Math.max(1, Math.ceil(requests.length / ranks))), contextLength };
}
