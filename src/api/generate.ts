import { BOUNDS, checkBounds } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { type Written, openGenerator } from "../infer/generate.js";
import { generationNeed } from "../infer/memory-need.js";
import type { SamplingOptions } from "../infer/sampling.js";
import type { LineEvent } from "../launch/job.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { announceMemory, modelAt } from "./memory.js";

/** A model, a prompt, and how to sample. */
export interface GenerateOptions extends Partial<SamplingOptions>, MemoryOptions {
  /** Run directory (its newest checkpoint), checkpoint or published folder. */
  readonly model: string;
  /** Text to go on from. Default: empty, a new document. */
  readonly prompt?: string | undefined;
  /** Token ids instead of a prompt's text: a published folder without a tokenizer.json knows nothing else. */
  readonly ids?: readonly number[] | undefined;
  /** Hears each new piece of text; never a part of a character. */
  readonly onText?: ((text: string) => void) | undefined;
  /** Hears each new token. */
  readonly onToken?: ((id: number) => void) | undefined;
  /** Hears what memory it will take. */
  readonly onEvent?: ((event: LineEvent) => void) | undefined;
  /** Stops before the next token; what has been written is returned. */
  readonly signal?: AbortSignal | undefined;
}

/** Sampling, where nothing else is said. */
export const SAMPLING: SamplingOptions = { maxNewTokens: 100, temperature: 0.8, topK: 40, topP: 1, seed: 0 };

/**
 * Writes text with a trained model, on one rank of this thread; the event loop turns between tokens.
 * @throws InputError when the model is missing, damaged or not supported, or has no tokenizer for a text, or there is too little memory
 */
export async function generate(options: GenerateOptions): Promise<Written> {
  const { model, ids, prompt = "", onText, onToken, signal } = options;
  if (ids !== undefined && options.prompt !== undefined && options.prompt !== "")
    throw new InputError("generate takes a prompt or token ids; found both");
  const {
    maxNewTokens = SAMPLING.maxNewTokens,
    temperature = SAMPLING.temperature,
    topK = SAMPLING.topK,
    topP = SAMPLING.topP,
    seed = SAMPLING.seed,
  } = options;
  const sampling = { maxNewTokens, temperature, topK, topP, seed };
  checkBounds("generate", sampling, {
    maxNewTokens: BOUNDS.newTokens,
    temperature: BOUNDS.temperature,
    topK: BOUNDS.topK,
    topP: BOUNDS.topP,
    seed: BOUNDS.seed,
  });
  const config = modelAt(model);
  announceMemory(
    generationNeed(config, { promptTokens: ids?.length ?? Buffer.byteLength(prompt), maxNewTokens }),
    options,
  );
  const engine = createOrtEngine();
  try {
    return await openGenerator(model, engine).generate(ids ?? prompt, sampling, { onText, onToken, signal });
  } finally {
    engine.dispose();
  }
}
