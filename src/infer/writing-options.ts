/** How a text is written: what may be said, the usual where nothing is, and what is refused. */
import { BOUNDS, type Bound, checkBounds, fits, wanted } from "../core/bounds.js";
import { InputError } from "../core/errors.js";
import { shown } from "../core/shown.js";
import type { SamplingOptions } from "./sampling/sampling-parameters.js";
import { checkStopStrings } from "./text/stop-strings.js";

/** How tokens are chosen, where the text ends, and what is told of it. */
export interface WritingOptions extends SamplingOptions {
  /** The text ends before the first of them. */
  readonly stop?: readonly string[] | undefined;
  /** Log probabilities of each new token, and of so many likeliest ones beside it. Default: none. */
  readonly logprobs?: number | undefined;
}

/** A prompt, and how it is gone on from. */
export interface GenerateRequest extends Partial<WritingOptions> {
  /** Text, empty for a new document; or the ids of its tokens. */
  readonly prompt: string | readonly number[];
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

const SAMPLING_BOUNDS: Readonly<Record<keyof Omit<WritingOptions, "stop">, Bound>> = {
  maxNewTokens: BOUNDS.newTokens,
  temperature: BOUNDS.temperature,
  topK: BOUNDS.topK,
  topP: BOUNDS.topP,
  minP: BOUNDS.minP,
  repetitionPenalty: BOUNDS.repetitionPenalty,
  presencePenalty: BOUNDS.penalty,
  frequencyPenalty: BOUNDS.penalty,
  seed: BOUNDS.seed,
  logprobs: BOUNDS.logprobs,
};

/** What a request may say. */
export const WRITING_KEYS = [...Object.keys(SAMPLING_BOUNDS), "stop"] as readonly (keyof WritingOptions)[];

/**
 * What is said, and the usual where nothing is.
 * @param where what the options are of, for messages
 * @throws InputError naming the first that does not fit
 */
export function writingOptions(where: string, options: Partial<WritingOptions>): WritingOptions {
  const said = WRITING_KEYS.filter((key) => options[key] !== undefined);
  const all = { ...SAMPLING, ...Object.fromEntries(said.map((key) => [key, options[key]])) };
  checkBounds(where, all, SAMPLING_BOUNDS);
  try {
    checkStopStrings((all as WritingOptions).stop ?? []);
  } catch (error) {
    throw error instanceof InputError ? new InputError(`${where}: ${error.message}`) : error;
  }
  return all;
}

/**
 * @param of.vocabSize default: not known yet
 * @throws InputError when it is neither a text nor the ids of tokens that there are, at least one
 */
export function checkPrompt(
  where: string,
  prompt: unknown,
  of: { readonly vocabSize?: number | undefined } = {},
): asserts prompt is GenerateRequest["prompt"] {
  if (typeof prompt === "string") return;
  if (!Array.isArray(prompt) || prompt.some((id) => !fits(id, BOUNDS.tokenId)))
    throw new InputError(
      `${where}: prompt is ${shown(prompt)}; wanted a text or a list of token ids, each ${wanted(BOUNDS.tokenId)}`,
    );
  const ids = prompt as readonly number[];
  if (ids.length === 0) throw new InputError(`${where}: The prompt has no tokens; wanted at least one`);
  const { vocabSize = Infinity } = of;
  const bad = ids.find((id) => id >= vocabSize);
  if (bad !== undefined)
    throw new InputError(`${where}: The prompt has token ${bad}; the model's vocab_size is ${vocabSize}`);
}

/** A tokenizer may put some before a text, and make more than one of some characters. */
const MORE_TOKENS = 16;

/** Tokens of a context that holds any of the requests with its answer: no text has more tokens than bytes. */
export function tokensAtMost(requests: readonly GenerateRequest[]): number {
  return requests.reduce((most, { prompt, maxNewTokens = SAMPLING.maxNewTokens }) => {
    const own = typeof prompt === "string" ? Buffer.byteLength(prompt) + MORE_TOKENS : prompt.length;
    return Math.max(most, own + maxNewTokens);
  }, 2);
}
