import { BOUNDS, checkBounds } from "../core/bounds.js";
import { createOrtEngine } from "../engine/ort-engine.js";
import { type Written, openGenerator } from "../infer/generate.js";
import { generationNeed } from "../infer/memory-need.js";
import type { SamplingOptions } from "../infer/sampling.js";
import type { LineEvent } from "../launch/job.js";
import type { MemoryOptions } from "../run/memory-need.js";
import { announceMemory, modelAt } from "./memory.js";

/** A model, a prompt, and how to sample. */
export interface GenerateOptions extends Partial<SamplingOptions>, MemoryOptions {
  /** Run directory (its newest checkpoint) or checkpoint. */
  readonly model: string;
  /** Text to go on from. Default: empty, a new document. */
  readonly prompt?: string | undefined;
  /** Hears each new piece of text; never a part of a character. */
  readonly onText?: ((text: string) => void) | undefined;
  /** Hears what memory it will take. */
  readonly onEvent?: ((event: LineEvent) => void) | undefined;
  /** Stops before the next token; what has been written is returned. */
  readonly signal?: AbortSignal | undefined;
}

/** Sampling, where nothing else is said. */
export const SAMPLING: SamplingOptions = { maxNewTokens: 100, temperature: 0.8, topK: 40, topP: 1, seed: 0 };

/**
 * Writes text with a trained model, on one rank of this thread; the event loop turns between tokens.
 * @throws InputError when the checkpoint is missing, damaged or has no tokenizer, or there is too little memory
 */
export async function generate(options: GenerateOptions): Promise<Written> {
  const { model, prompt = "", onText, signal } = options;
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
  announceMemory(generationNeed(config, { prompt, maxNewTokens }), options);
  const engine = createOrtEngine();
  try {
    return await openGenerator(model, engine).generate(prompt, sampling, { onText, signal });
  } finally {
    engine.dispose();
  }
}
