import { BOUNDS, type Bound, checkBounds } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { type Written, openGenerator } from "../infer/generate.js";
import { engineNeed } from "../infer/memory-need.js";
import { ENGINE } from "../infer/open-engine.js";
import type { SamplingOptions } from "../infer/sampling-parameters.js";
import { checkStopStrings } from "../infer/stop-strings.js";
import type { LineEvent } from "../launch/job.js";
import type { MemoryOptions } from "../run/memory-need.js";
import type { QuantisedForm } from "../kernel/quantise.js";
import { announceMemory, modelAt, rankPlaces } from "./memory.js";
import { type RunOptions, launchOptions } from "./run-options.js";

/** A model, a prompt, and how to sample. */
export interface GenerateOptions
  extends Partial<SamplingOptions>, MemoryOptions, Pick<RunOptions, "link" | "deadlineMs"> {
  /** Run directory (its newest checkpoint), checkpoint or published folder. */
  readonly model: string;
  /** Text to go on from. Default: empty, a new document. */
  readonly prompt?: string | undefined;
  /** Token ids instead of a prompt's text: a published folder without a tokenizer.json knows nothing else. */
  readonly ids?: readonly number[] | undefined;
  /** The text ends before the first of these. Default: none. */
  readonly stop?: readonly string[] | undefined;
  /** Hears each new piece of text; never a part of a character. */
  readonly onText?: ((text: string) => void) | undefined;
  /** Hears each new token. */
  readonly onToken?: ((id: number) => void) | undefined;
  /**
   * Ranks as threads, or the processes of an MPI launcher (those of other ranks than 0 are given an empty text). Default: this thread; the
   * event loop turns between tokens.
   */
  readonly ranks?: number | undefined;
  /** How transfers between ranks are hidden. Default "adaptive". */
  readonly policy?: string | undefined;
  /** Holds the weights of matrix products in 8 or 4 bits. Default: as f32. */
  readonly quantize?: QuantisedForm | undefined;
  /** Hears what memory it will take. */
  readonly onEvent?: ((event: LineEvent) => void) | undefined;
  /** Stops before the next token; what has been written is returned. */
  readonly signal?: AbortSignal | undefined;
}

/** Sampling, where nothing else is said. */
export const SAMPLING: SamplingOptions = {
  maxNewTokens: 100,
  temperature: 0.8,
  topK: 40,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
};

const SAMPLING_BOUNDS: Readonly<Record<keyof SamplingOptions, Bound>> = {
  maxNewTokens: BOUNDS.newTokens,
  temperature: BOUNDS.temperature,
  topK: BOUNDS.topK,
  topP: BOUNDS.topP,
  minP: BOUNDS.minP,
  repetitionPenalty: BOUNDS.repetitionPenalty,
  presencePenalty: BOUNDS.penalty,
  frequencyPenalty: BOUNDS.penalty,
  seed: BOUNDS.seed,
};

/**
 * Writes text with a trained model. A text that outgrows the model's context goes on with its latest half.
 * @throws InputError when the model is missing, damaged or not supported, or has no tokenizer for a text, or there is too little memory
 */
export async function generate(options: GenerateOptions): Promise<Written> {
  const { model, ids, prompt = "", stop = [], onText, onToken, signal } = options;
  if (ids !== undefined && options.prompt !== undefined && options.prompt !== "")
    throw new InputError("generate takes a prompt or token ids; found both");
  const sampling = samplingOf(options);
  checkBounds("generate", sampling, SAMPLING_BOUNDS);
  checkStopStrings(stop);
  const config = modelAt(model);
  const { ranks, policy, quantize: form = ENGINE.form } = options;
  const tokens = (ids?.length ?? Buffer.byteLength(prompt)) + sampling.maxNewTokens;
  const contextLength = Math.min(Math.max(2, tokens), config.max_position_embeddings);
  const shape = { form, slots: 1, contextLength, chunk: ENGINE.chunk };
  announceMemory(engineNeed(config, { ...shape, ...rankPlaces(ranks) }), options);
  const { link, deadlineMs } = launchOptions(options);
  const generator = await openGenerator(model, {
    ...{ ranks, link, deadlineMs, policy, form, slots: 1, contextLength },
    onLine: options.onEvent,
  });
  if (generator === undefined) return { text: "", ids: [], newTokens: 0, stopped: "length" };
  try {
    return await generator.generate(ids ?? prompt, { ...sampling, stop }, { onText, onToken, signal });
  } finally {
    await generator.close();
  }
}

/** What is said, and the usual where nothing is. */
function samplingOf(options: Partial<SamplingOptions>): SamplingOptions {
  const keys = Object.keys(SAMPLING) as (keyof SamplingOptions)[];
  const said = keys.filter((key) => options[key] !== undefined);
  return { ...SAMPLING, ...Object.fromEntries(said.map((key) => [key, options[key]])) };
}
